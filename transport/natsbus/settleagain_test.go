package natsbus_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
)

// Settlements were written and did not reach the server. Who settles again hears
// that they are in doubt: it may see the messages again.
func TestSettle_again_names_what_was_written_and_not_confirmed(t *testing.T) {
	for name, fail := range map[string]func(l *lossy, ss []driver.Settlement) error{
		"the link is lost": func(l *lossy, ss []driver.Settlement) error {
			var link *nats.Conn
			l.c.As(&link)
			before := link.Stats().OutMsgs
			failed := make(chan error, 1)
			go func() { failed <- l.r.Settle(within(l), ss) }()
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for link.Stats().OutMsgs < before+uint64(len(ss)) {
				<-tick.C
			}
			l.proxy.Cut()
			return <-failed
		},
		"time is over": func(l *lossy, ss []driver.Settlement) error {
			ctx, cancel := context.WithTimeout(l.Context(), 50*time.Millisecond)
			defer cancel()
			err := l.r.Settle(ctx, ss)
			l.proxy.Cut()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := overLossyLink(t, "settle-again-"+name[:3], 5*time.Second)
			l.send(0, 3)
			var ss []driver.Settlement
			for len(ss) < 3 {
				for _, d := range l.receive(3) {
					ss = append(ss, driver.Settlement{Delivery: d})
				}
			}
			l.proxy.Stall()
			if err := fail(l, ss); l.c.Classify(err) != driver.Retryable {
				t.Fatalf("settled over a link that is silent: %v", err)
			}
			l.proxy.Heal()
			doubtful := map[string]bool{}
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			err := l.r.Settle(within(t), ss)
			for l.c.Classify(err) == driver.Retryable {
				<-tick.C
				err = l.r.Settle(within(t), ss)
			}
			if stale := (*driver.StaleError)(nil); errors.As(err, &stale) {
				for _, i := range stale.Indexes {
					doubtful[ss[i].Delivery.Message.ID] = true
				}
			} else if err != nil {
				t.Fatal(err)
			}
			l.send(3, 4)
			for !l.seen["03"] {
				for _, d := range l.receive(10) {
					if id := d.Message.ID; id != "03" && !doubtful[id] {
						t.Errorf("%s was settled for all that Settle said, and came again", id)
					}
				}
			}
		})
	}
}
