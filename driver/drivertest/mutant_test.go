package drivertest_test

import (
	"context"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/membus"
)

// A mutant is a good transport with one defect, which the suite must find.
type mutant struct {
	caught  string   // by this test; of those under faults, in these words
	only    []string // under these faults; all where empty
	caps    func(*driver.Capabilities)
	opening func(*driver.Subscription)
	send    func(driver.Conn, context.Context, []*driver.Message) error
	receive func(driver.Receiver, context.Context, int) ([]*driver.Delivery, error)
	settle  func(driver.Receiver, context.Context, []driver.Settlement) error
	close   func(driver.Receiver, context.Context) error
}

// held is what a mutant that acknowledges more than it was told remembers.
var held []*driver.Delivery

var mutants = map[string]mutant{
	"loses the last of a batch": {caught: "Send_takes_a_large_batch_over_several_channels",
		send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
			return c.Send(ctx, ms[:max(1, len(ms)-1)])
		}},
	"confirms what nobody provisioned": {caught: "Send_to_an_unprovisioned_channel_is_not_found",
		send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error { c.Send(ctx, ms); return nil }},
	"sends a batch backwards": {caught: "Order_holds_by_key_for_one_receiver",
		send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
			ms = slices.Clone(ms)
			slices.Reverse(ms)
			return c.Send(ctx, ms)
		}},
	"sends everything twice": {caught: "Group_instances_compete",
		send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
			return c.Send(ctx, append(slices.Clone(ms), ms...))
		}},
	"fails a batch as a whole": {caught: "Send_names_exactly_the_messages_that_failed",
		send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
			if err := c.Send(ctx, ms); err != nil {
				return driver.ErrNotFound
			}
			return nil
		}},
	"changes a message that comes again": {caught: "Message_never_changes",
		receive: func(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
			ds, err := r.Receive(ctx, n)
			for _, d := range ds {
				if d.Attempt > 1 {
					m := *d.Message
					m.ID = "changed"
					d.Message = &m
				}
			}
			return ds, err
		}},
	"drops empty headers": {caught: "Send_carries_headers_as_they_are",
		receive: func(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
			ds, err := r.Receive(ctx, n)
			for _, d := range ds {
				d.Message.Headers = slices.DeleteFunc(d.Message.Headers, func(h driver.Header) bool { return h.Value == "" })
			}
			return ds, err
		}},
	"rounds time to milliseconds": {caught: "Send_carries_every_attribute",
		receive: func(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
			ds, err := r.Receive(ctx, n)
			for _, d := range ds {
				d.Message.Time = d.Message.Time.Truncate(time.Millisecond)
			}
			return ds, err
		}},
	"returns nothing and no error": {caught: "Receive_ends_promptly_with_its_context",
		receive: func(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
			ds, _ := r.Receive(ctx, n)
			return ds, nil
		}},
	"does not count attempts": {caught: "Attempt_counts_deliveries_also_to_the_dead",
		receive: func(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
			ds, err := r.Receive(ctx, n)
			for _, d := range ds {
				d.Attempt = 1
			}
			return ds, err
		}},
	"acknowledges the batch with its first": {caught: "Settle_of_a_part_leaves_the_rest_unsettled",
		receive: func(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
			ds, err := r.Receive(ctx, n)
			held = append(held, ds...)
			return ds, err
		},
		settle: func(r driver.Receiver, ctx context.Context, _ []driver.Settlement) error {
			var ss []driver.Settlement
			for _, d := range held {
				ss = append(ss, driver.Settlement{Delivery: d})
			}
			return r.Settle(ctx, ss)
		}},
	"does not wait before a retry": {caught: "Settle_Retry_waits_as_long_as_asked",
		settle: func(r driver.Receiver, ctx context.Context, ss []driver.Settlement) error {
			for i := range ss {
				ss[i].After = 0
			}
			return r.Settle(ctx, ss)
		}},
	"takes a rejection for a retry": {caught: "Settle_Reject_is_the_end_of_a_message",
		settle: func(r driver.Receiver, ctx context.Context, ss []driver.Settlement) error {
			for i := range ss {
				if ss[i].Outcome == driver.Reject {
					ss[i].Outcome = driver.Retry
				}
			}
			return r.Settle(ctx, ss)
		}},
	"keeps what a closed receiver held": {caught: "Takeover_gives_the_next_receiver_what_was_unsettled",
		close: func(driver.Receiver, context.Context) error { return nil }},
	"hands out more than the window":             {caught: "Receive_hands_out_no_more_than_the_window", opening: func(s *driver.Subscription) { s.Window *= 2 }},
	"takes a broadcast for a group":              {caught: "Broadcast_reaches_each_instance", opening: func(s *driver.Subscription) { s.Broadcast = false }},
	"does not admit that it cannot broadcast":    {caught: "Broadcast_reaches_each_instance", caps: func(c *driver.Capabilities) { c.Broadcast = false }},
	"does not admit that it cannot keep order":   {caught: "Order_demanded_beyond_ability_is_refused", caps: func(c *driver.Capabilities) { c.Order = driver.OrderInstance }},
	"leaves a goroutine behind for every batch ": {caught: "Connections_see_each_others_messages", send: leakySend},
}

func leakySend(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
	go func() { select {} }()
	return c.Send(ctx, ms)
}

type mutantConn struct {
	driver.Conn
	m mutant
}

func (c mutantConn) Capabilities() driver.Capabilities {
	caps := c.Conn.Capabilities()
	if c.m.caps != nil {
		c.m.caps(&caps)
	}
	return caps
}

func (c mutantConn) Send(ctx context.Context, ms []*driver.Message) error {
	if c.m.send != nil {
		return c.m.send(c.Conn, ctx, ms)
	}
	return c.Conn.Send(ctx, ms)
}

func (c mutantConn) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	if c.m.opening != nil {
		c.m.opening(&s)
	}
	r, err := c.Conn.OpenReceiver(ctx, s)
	return mutantReceiver{r, c.m}, err
}

type mutantReceiver struct {
	driver.Receiver
	m mutant
}

func (r mutantReceiver) Receive(ctx context.Context, n int) ([]*driver.Delivery, error) {
	if r.m.receive != nil {
		return r.m.receive(r.Receiver, ctx, n)
	}
	return r.Receiver.Receive(ctx, n)
}

func (r mutantReceiver) Settle(ctx context.Context, ss []driver.Settlement) error {
	if r.m.settle != nil {
		return r.m.settle(r.Receiver, ctx, ss)
	}
	return r.Receiver.Settle(ctx, ss)
}

func (r mutantReceiver) Close(ctx context.Context) error {
	if r.m.close != nil {
		return r.m.close(r.Receiver, ctx)
	}
	return r.Receiver.Close(ctx)
}

const mutantVariable = "DRIVERTEST_MUTANT"

// TestMutant is what TestRun_finds_every_defect runs in a process of its own;
// elsewhere there is nothing to test.
func TestMutant(t *testing.T) {
	m, ok := mutants[os.Getenv(mutantVariable)]
	if !ok {
		return
	}
	bus, err := membus.New(membus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	drivertest.Run(t, drivertest.Harness{
		Open:     func(context.Context) (driver.Conn, error) { return mutantConn{bus.Connect(), m}, nil },
		Patience: time.Second,
	})
}

func TestRun_finds_every_defect(t *testing.T) {
	for name, m := range mutants {
		t.Run(strings.ReplaceAll(strings.TrimSpace(name), " ", "_"), func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestMutant$/^"+m.caught+"$", "-test.timeout=60s")
			cmd.Env = append(os.Environ(), mutantVariable+"="+name)
			out, err := cmd.CombinedOutput()
			if err == nil || !strings.Contains(string(out), "--- FAIL: TestMutant/"+m.caught) {
				t.Fatalf("a transport that %s passed %s: %v\n%s", name, m.caught, err, out)
			}
		})
	}
}
