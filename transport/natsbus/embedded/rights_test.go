package embedded_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/internal/rightstest"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/nats-io/nats-server/v2/server"
)

func TestRights_that_are_printed_are_what_a_service_needs(t *testing.T) {
	for _, partitions := range []int{0, 1} {
		t.Run(fmt.Sprintf("%d partitions", partitions), func(t *testing.T) {
			drivertest.CheckLeaks(t)
			rightstest.Check(t, rightstest.Harness{
				Start: func(t *testing.T, grants []driver.Grant) (operator, granted driver.Conn, err error) {
					return startGranting(t, grants, partitions)
				},
				Names: func(g driver.Grant) string { return namesSubject(g, partitions) },
			})
		})
	}
}

func startGranting(t *testing.T, grants []driver.Grant, partitions int) (operator, granted driver.Conn, err error) {
	publish, subscribe := []string{}, []string{}
	for _, g := range grants {
		if g.Verb == "publish" {
			publish = append(publish, g.On)
		} else {
			subscribe = append(subscribe, g.On)
		}
	}
	if grants == nil {
		publish, subscribe = []string{">"}, []string{">"}
	}
	ns, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		Users: []*server.User{
			{Username: "operator", Password: "x"},
			{Username: "mail", Password: "x", Permissions: &server.Permissions{
				Publish: &server.SubjectPermission{Allow: publish}, Subscribe: &server.SubjectPermission{Allow: subscribe}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() }) // after those who are connected
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	operator = connect(t, natsbus.Options{URL: ns.ClientURL(), User: "operator", Password: "x", Partitions: partitions})
	c, err := natsbus.Connect(t.Context(), natsbus.Options{URL: ns.ClientURL(), User: "mail", Password: "x",
		Inbox: "_INBOX_mail", Partitions: partitions, Logger: quiet})
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return operator, c, nil
}

// namesSubject is how the subject begins that is denied without a permission. It
// is empty for those that are needed after a loss of the link, or when partitions
// are shared again; with partitions only what they need beside is tried.
func namesSubject(g driver.Grant, partitions int) string {
	members := strings.HasPrefix(g.On, "DOVETAIL.members.")
	if members != (partitions > 0) || strings.HasPrefix(g.On, "$JS.API.CONSUMER.UNPIN.") ||
		strings.HasPrefix(g.On, "$JS.API.CONSUMER.INFO.") && strings.HasSuffix(g.On, ".*") {
		return ""
	}
	for _, part := range strings.Split(g.On, ".") {
		if channel := strings.ReplaceAll(part, "+", "."); rightstest.Unused(channel) {
			return ""
		}
	}
	if name, _, ok := strings.Cut(g.On, ".*"); ok && rightstest.Unused(name) {
		return ""
	}
	subject, _, _ := strings.Cut(strings.TrimSuffix(g.On, ">"), "*")
	return subject
}
