package kafkabus_test

import (
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A transactional producer of somebody else's commits one message and aborts
// another: the second never happened, and what ends a transaction in the log is
// no message that waits.
func TestReceiver_reads_what_was_committed(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	c := connect(t, options(s))
	sub := subscription("transacted", 1)
	sub.Channel.Kind = driver.PublishSubscribe
	all := sub
	all.Broadcast, all.Ordered, all.Instance = true, false, "all"
	provision(t, c, sub.Channel, sub)
	group, everything := open(t, c, sub), open(t, c, all)
	producer := plain(t, s, kgo.TransactionalID("transacted"))
	transact := func(body string, end kgo.TransactionEndTry) {
		t.Helper()
		if err := producer.BeginTransaction(); err != nil {
			t.Fatal(err)
		}
		if err := producer.ProduceSync(t.Context(), &kgo.Record{Topic: sub.Channel.Name, Value: []byte(body)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
		if err := producer.EndTransaction(t.Context(), end); err != nil {
			t.Fatal(err)
		}
	}
	transact("aborted", kgo.TryAbort)
	transact("committed", kgo.TryCommit)
	transact("aborted as well", kgo.TryAbort)
	for name, r := range map[string]driver.Receiver{"group": group, "broadcast": everything} {
		d := receive(t, r, 1)[0]
		if string(d.Message.Body) != "committed" {
			t.Errorf("%s: got %q", name, d.Message.Body)
		}
		ack(t, r, d)
		// What a watchdog looks at while nothing is received.
		n, err := r.(driver.Backlogger).Backlog(t.Context())
		if err != nil || n != 0 {
			t.Errorf("%s: backlog %d, %v; want 0, for markers are no messages", name, n, err)
		}
	}
	page, err := c.Browse(t.Context(), sub.Channel.Name, "", 10)
	if err != nil || len(page) != 1 || string(page[0].Message.Body) != "committed" {
		t.Errorf("a page shows %d messages, %v; want the committed one", len(page), err)
	}
	// Receiving settles the markers, so that the server's own tools show no lag.
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = group.Receive(t.Context(), 1) // until it is closed
	}()
	adm := kadm.NewClient(plain(t, s))
	eventually(t, func() string { return "no lag" }, func() bool {
		lags, err := adm.Lag(t.Context(), "worker@transacted")
		return err == nil && lags["worker@transacted"].Lag.Total() == 0
	})
	if err := group.Close(t.Context()); err != nil {
		t.Error(err)
	}
	await(t, done)
}
