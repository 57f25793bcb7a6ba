package kafkabus_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/kafkabus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// A topic that was made beforehand is used as it is, unless its settings lose
// messages: then the error names the setting and the remedy. What may lose some is
// logged.
func TestProvision_looks_at_the_settings_of_topics_that_exist(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	adm := kadm.NewClient(plain(t, s))
	pubsub := driver.Channel{Kind: driver.PublishSubscribe}
	for _, tt := range []struct {
		name    string
		ch      driver.Channel
		o       kafkabus.Options
		set     string // name=value, with spaces between
		refused string // the remedy
		warned  string
	}{
		{name: "dead.made-short", set: "retention.ms=1000", refused: "set retention.ms=-1"},
		{name: "dead.made-small", set: "retention.ms=-1 retention.bytes=1000", refused: "set retention.bytes=-1"},
		{name: "dead.made-right", set: "retention.ms=-1 retention.bytes=-1"},
		{name: "dead.made-compact", set: "cleanup.policy=compact"},
		{name: "unhandled.made.0123456789abcdef", set: "cleanup.policy=compact", refused: "set cleanup.policy=delete"},
		{name: "made-compact", set: "cleanup.policy=compact", refused: "set cleanup.policy=delete"},
		{name: "made-compact-published", ch: pubsub, set: "cleanup.policy=compact", warned: "cleanup.policy"},
		{name: "made-short", set: "retention.ms=60000", refused: "retention.ms is 60000"},
		{name: "made-short-and-meant", set: "retention.ms=60000", o: kafkabus.Options{Retention: time.Minute}},
		{name: "made-for-a-morning", set: "retention.ms=21600000", warned: "retention.ms is 21600000"},
		{name: "made-small", set: "retention.bytes=1048576", refused: "set retention.bytes=-1"},
		{name: "made-narrow", set: "max.message.bytes=100000", warned: "max.message.bytes"},
		{name: "made-narrow-for-large", o: kafkabus.Options{MaxBytes: 2_000_000}, refused: "raise its max.message.bytes"},
		{name: "made-unclean", set: "unclean.leader.election.enable=true", warned: "unclean.leader.election.enable"},
		{name: "made-as-it-comes", set: ""},
		{name: "made-transient", ch: driver.Channel{Transient: true}, set: "retention.ms=60000"},
	} {
		config := map[string]*string{}
		for _, pair := range strings.Fields(tt.set) {
			name, value, _ := strings.Cut(pair, "=")
			config[name] = &value
		}
		if _, err := adm.CreateTopic(t.Context(), 1, 1, config, tt.name); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		o := options(s)
		o.Retention, o.MaxBytes, o.Logger = tt.o.Retention, tt.o.MaxBytes, slog.New(slog.NewTextHandler(&log, nil))
		c := connect(t, o)
		tt.ch.Name = tt.name
		for range 2 { // it is said once
			err := c.Provision(t.Context(), []driver.Channel{tt.ch}, nil)
			switch {
			case tt.refused == "" && err != nil:
				t.Errorf("%s: %v", tt.name, err)
			case tt.refused != "" && (c.Classify(err) != driver.Conflict || !strings.Contains(err.Error(), tt.refused) || !strings.Contains(err.Error(), tt.name)):
				t.Errorf("%s: %v; want ErrConflict with the remedy %q", tt.name, err, tt.refused)
			}
		}
		if said := strings.Count(log.String(), "level=WARN"); tt.warned == "" && said > 0 || tt.warned != "" && (said != 1 || !strings.Contains(log.String(), tt.warned)) {
			t.Errorf("%s: it logs %q, want %q once", tt.name, log.String(), tt.warned)
		}
	}
}

// Kafka takes '.' and '_' for one character in metrics, and so refuses the second.
func TestProvision_refuses_names_that_Kafka_cannot_tell_apart(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	c := connect(t, options(s))
	provision(t, c, driver.Channel{Name: "told-apart.not"})
	for _, name := range []string{"told-apart-not", "told-apartnot"} {
		provision(t, c, driver.Channel{Name: name})
	}
	err := c.Provision(t.Context(), []driver.Channel{{Name: "told-apart_not"}}, nil)
	if c.Classify(err) != driver.Conflict || !strings.Contains(err.Error(), "another name") {
		t.Errorf("%v is %q, want a conflict with the remedy", err, c.Classify(err))
	}
	provision(t, c, driver.Channel{Name: "told-apart_2"})
}

// While brokers still register, there are too few of them for the copies that are
// wanted: that is no conflict. Nor is it for whoever may not look at settings.
func TestFake_provision_waits_for_brokers_that_register(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	drivertest.CheckLeaks(t)
	c := connect(t, kafkabus.Options{Brokers: fake.ListenAddrs(), Timeout: 3 * time.Second, Logger: slog.New(slog.DiscardHandler)})
	fake.ControlKey(int16(kmsg.CreateTopics), func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
		for _, rt := range req.(*kmsg.CreateTopicsRequest).Topics {
			st := kmsg.NewCreateTopicsResponseTopic()
			st.Topic, st.ErrorCode = rt.Topic, kerr.InvalidReplicationFactor.Code
			resp.Topics = append(resp.Topics, st)
		}
		return resp, nil, true
	})
	fake.ControlKey(int16(kmsg.DescribeConfigs), func(req kmsg.Request) (kmsg.Response, error, bool) {
		resp := req.ResponseKind().(*kmsg.DescribeConfigsResponse)
		for _, r := range req.(*kmsg.DescribeConfigsRequest).Resources {
			sr := kmsg.NewDescribeConfigsResponseResource()
			sr.ResourceType, sr.ResourceName, sr.ErrorCode = r.ResourceType, r.ResourceName, kerr.TopicAuthorizationFailed.Code
			resp.Resources = append(resp.Resources, sr)
		}
		return resp, nil, true
	})
	ch := driver.Channel{Name: "early"}
	if err := c.Provision(t.Context(), []driver.Channel{ch}, nil); c.Classify(err) != driver.Retryable || !errors.Is(err, kerr.InvalidReplicationFactor) {
		t.Errorf("provision while brokers register: %v is %q", err, c.Classify(err))
	}
	if err := c.Provision(t.Context(), []driver.Channel{ch}, nil); err != nil {
		t.Errorf("provision when they have: %v", err)
	}
}
