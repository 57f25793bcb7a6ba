package rabbitbus_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
)

// A channel that is full says how its bound is raised: max-length stays with the
// queue for as long as it is there.
func TestFull_channel_takes_more_when_its_remedy_is_followed(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	o := optionsFor(t, srv)
	o.MaxLength = 5
	c := connect(t, o)
	s := newQueue(t, c, 20)
	fill := func(c driver.Conn, n int) (err error) {
		for i := 0; err == nil && i < n; i++ {
			err = c.Send(within(t), []*driver.Message{{Channel: s.Channel.Name, ID: fmt.Sprint("m", i), Source: "test", Type: "test.v1", Body: []byte("x")}})
		}
		return err
	}
	err := fill(c, 50)
	for _, want := range []string{"is full", "let receivers catch up", "of max-length by removing the channel once it is empty (dovetail topology remove " + s.Channel.Name + ")"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Fatalf("error %v, want %q", err, want)
		}
	}
	if err := c.RemoveChannel(within(t), s.Channel.Name); err != nil {
		t.Fatal(err)
	}
	o.MaxLength = 100
	wide := connect(t, o)
	if err := wide.Provision(within(t), nil, []driver.Subscription{s}); err != nil {
		t.Fatal(err)
	}
	if err := fill(wide, 50); err != nil {
		t.Errorf("after that: %v", err)
	}
}
