package natsbus_test

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A stream that was made beforehand is used as it is, unless its settings lose
// messages: then the error names the setting and the remedy. What may lose some is
// logged.
func TestProvision_looks_at_the_settings_of_what_exists(t *testing.T) {
	server := servers.Shared(t, servers.NATS)
	nc, err := nats.Connect(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name     string
		stream   func(*jetstream.StreamConfig)
		consumer func(*jetstream.ConsumerConfig)
		refused  string
		warned   string
	}{
		{name: "as-it-comes"},
		{name: "a-minute", stream: func(c *jetstream.StreamConfig) { c.MaxAge = time.Minute }, refused: "max_age is 1m0s"},
		{name: "a-day", stream: func(c *jetstream.StreamConfig) { c.MaxAge = 24 * time.Hour }, warned: "max_age is 24h"},
		{name: "drops-the-old", stream: func(c *jetstream.StreamConfig) { c.MaxMsgs = 10 }, refused: "set discard to new"},
		{name: "bounded", stream: func(c *jetstream.StreamConfig) { c.MaxMsgs, c.Discard = 1000, jetstream.DiscardNew }},
		{name: "one-each", stream: func(c *jetstream.StreamConfig) { c.MaxMsgsPerSubject = 1 }, refused: "max_msgs_per_subject is 1"},
		{name: "in-memory", stream: func(c *jetstream.StreamConfig) { c.Storage = jetstream.MemoryStorage }, refused: "storage is memory"},
		{name: "unconfirmed", stream: func(c *jetstream.StreamConfig) { c.NoAck = true }, refused: "no_ack"},
		{name: "elsewhere", stream: func(c *jetstream.StreamConfig) { c.Subjects = []string{"elsewhere.x.*"} }, refused: "add elsewhere.*"},
		{name: "wider", stream: func(c *jetstream.StreamConfig) { c.Subjects = []string{"wider.>"} }},
		{name: "forgets-groups", refused: "inactive_threshold",
			stream: func(c *jetstream.StreamConfig) { c.ConsumerLimits.InactiveThreshold = time.Hour }},
		{name: "five-times", consumer: func(c *jetstream.ConsumerConfig) { c.MaxDeliver = 5 }, refused: "max_deliver is 5"},
		{name: "acks-all", consumer: func(c *jetstream.ConsumerConfig) { c.AckPolicy = jetstream.AckAllPolicy }, refused: "ack_policy"},
		{name: "goes-away", consumer: func(c *jetstream.ConsumerConfig) { c.InactiveThreshold = time.Hour }, refused: "inactive_threshold is 1h"},
		{name: "a-part", consumer: func(c *jetstream.ConsumerConfig) { c.FilterSubject = "a-part.x" }, refused: "the filter has to be a-part.*"},
		{name: "no-bodies", consumer: func(c *jetstream.ConsumerConfig) { c.HeadersOnly = true }, refused: "headers_only"},
		{name: "forgets", consumer: func(c *jetstream.ConsumerConfig) { c.MemoryStorage = true }, warned: "memory"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			stream := jetstream.StreamConfig{Name: tt.name, Subjects: []string{tt.name + ".*"}, Retention: jetstream.InterestPolicy}
			if tt.stream != nil {
				tt.stream(&stream)
			}
			if _, err := js.CreateStream(t.Context(), stream); err != nil {
				t.Fatal(err)
			}
			if tt.consumer != nil {
				consumer := jetstream.ConsumerConfig{Durable: "worker", AckPolicy: jetstream.AckExplicitPolicy, FilterSubject: tt.name + ".*"}
				tt.consumer(&consumer)
				if _, err := js.CreateConsumer(t.Context(), tt.name, consumer); err != nil {
					t.Fatal(err)
				}
			}
			var log bytes.Buffer
			c, err := natsbus.Connect(t.Context(), natsbus.Options{URL: server.URL(), Logger: slog.New(slog.NewTextHandler(&log, nil))})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close(t.Context())
			s := driver.Subscription{Channel: driver.Channel{Name: tt.name, Kind: driver.PublishSubscribe}, Group: "worker", Instance: "1", Window: 10}
			err = c.Provision(t.Context(), []driver.Channel{s.Channel}, []driver.Subscription{s})
			switch {
			case tt.refused == "":
				if err != nil {
					t.Errorf("it is refused: %v", err)
				}
			case !errors.Is(err, driver.ErrConflict) || !strings.Contains(err.Error(), tt.refused):
				t.Errorf("got %v, want a conflict that says %q", err, tt.refused)
			}
			if got := log.String(); tt.warned == "" && got != "" || !strings.Contains(got, tt.warned) {
				t.Errorf("logged %q, want %q", got, tt.warned)
			}
		})
	}
}
