package natsbus_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/nats-io/nats.go/jetstream"
)

// A channel that is full says how its bound is raised: not by the option, which is
// for new channels.
func TestFull_channel_takes_more_when_its_remedy_is_followed(t *testing.T) {
	const bound = 64 << 10
	c := connect(t, natsbus.Options{URL: servers.Shared(t, servers.NATS).URL(), MaxBytes: bound})
	name := "remedy.full"
	provision(t, c, work(name))
	fill := func() (err error) {
		for i := 0; err == nil && i < 200; i++ {
			err = c.Send(within(t), []*driver.Message{{Channel: name, ID: fmt.Sprint("m", i), Source: "test", Type: "test.v1", Body: make([]byte, 1024)}})
		}
		return err
	}
	err := fill()
	for _, want := range []string{"is full", "nats stream edit remedy+full --max-bytes=N"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("error %v, want %q", err, want)
		}
	}
	var js jetstream.JetStream
	if !c.As(&js) {
		t.Fatal("it has no JetStream")
	}
	stream, err := js.Stream(within(t), "remedy+full")
	if err != nil {
		t.Fatal(err)
	}
	cfg := stream.CachedInfo().Config
	cfg.MaxBytes = 8 * bound // what nats stream edit does
	if _, err := js.UpdateStream(within(t), cfg); err != nil {
		t.Fatal(err)
	}
	if err := c.Send(within(t), []*driver.Message{{Channel: name, ID: "more", Source: "test", Type: "test.v1", Body: make([]byte, 1024)}}); err != nil {
		t.Errorf("after that: %v", err)
	}
	provision(t, c, work(name)) // and it is what it was
}
