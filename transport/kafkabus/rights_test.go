package kafkabus_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/internal/rightstest"
	"github.com/dovetail-go/dovetail/transport/kafkabus"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestFake_rights_that_are_printed_are_what_a_service_needs(t *testing.T) {
	rightstest.Check(t, rightstest.Harness{Start: startGranting, Names: namesResource})
}

func startGranting(t *testing.T, all []driver.Grant) (operator, granted driver.Conn, err error) {
	var acls []kfake.ACL
	for _, g := range all {
		kind, name, _ := strings.Cut(g.On, " ")
		acl := kfake.ACL{Resource: kmsg.ACLResourceTypeTopic, Name: name, Pattern: kmsg.ACLResourcePatternTypeLiteral, Allow: true}
		if kind == "group" {
			acl.Resource = kmsg.ACLResourceTypeGroup
		}
		if prefix, is := strings.CutSuffix(name, "*"); is {
			acl.Name, acl.Pattern = prefix, kmsg.ACLResourcePatternTypePrefixed
		}
		acl.Operation = map[string]kmsg.ACLOperation{
			"Create": kmsg.ACLOperationCreate, "DescribeConfigs": kmsg.ACLOperationDescribeConfigs, "Read": kmsg.ACLOperationRead, "Write": kmsg.ACLOperationWrite,
		}[g.Verb]
		acls = append(acls, acl)
	}
	user := kfake.User("PLAIN", "mail", "x", acls...)
	if all == nil {
		user = kfake.Superuser("PLAIN", "mail", "x")
	}
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.EnableSASL(), kfake.EnableACLs(), kfake.Superuser("PLAIN", "operator", "x"), user)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fake.Close)
	o := kafkabus.Options{Brokers: fake.ListenAddrs(), User: "operator", Password: "x", Timeout: 3 * time.Second, Heartbeat: 50 * time.Millisecond,
		Partitions: 1, Logger: slog.New(slog.DiscardHandler)}
	operator = connect(t, o)
	o.User = "mail"
	c, err := kafkabus.Connect(t.Context(), o)
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return operator, c, nil
}

// namesResource is the name of the topic or group. Topics that the service makes
// itself have the settings that it wants: the right to read them is not missed.
func namesResource(g driver.Grant) string {
	_, name, _ := strings.Cut(g.On, " ")
	name = strings.TrimSuffix(name, "*")
	if g.Verb == "DescribeConfigs" || rightstest.Unused(strings.TrimPrefix(name, "__dovetail.removed.")) {
		return ""
	}
	if _, channel, ok := strings.Cut(name, "@"); ok && rightstest.Unused(channel) || rightstest.Unused(name) {
		return ""
	}
	return name
}
