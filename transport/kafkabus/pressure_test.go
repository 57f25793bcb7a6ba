package kafkabus_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The server refuses everything for longer than a message has time, in the
// middle of pipelines of several batches, then takes some of it, and refuses
// again; and one of the senders has a client whose buffer holds a part of what
// it sends.
func TestSend_keeps_the_order_of_a_key_when_the_server_refuses(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	drivertest.CheckLeaks(t)
	sub := subscription("refused", 2)
	other := connect(t, options(s))
	provision(t, other, sub.Channel, sub)
	adm := kadm.NewClient(plain(t, s))
	refuse := func(yes bool) { // a topic of one copy that must have two
		copies := "1"
		if yes {
			copies = "2"
		}
		change := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "min.insync.replicas", Value: &copies}}
		if _, err := adm.AlterTopicConfigs(context.Background(), change, sub.Channel.Name); err != nil {
			t.Errorf("min.insync.replicas: %v", err)
		}
	}
	h := newHandled()
	defer consume(t, other, sub, h, 0)()

	const batches, batch, keys, body = 12, 120, 4, 16 << 10 // 1.9 MB a Send, and a request to a partition holds 1 MB
	var done atomic.Bool
	var senders, changer sync.WaitGroup
	var again atomic.Int64
	clients := map[string][]kgo.Opt{"roomy": nil, "narrow": {kgo.MaxBufferedRecords(50)}, "shared-1": nil, "shared-2": nil}
	for name, opts := range clients {
		o := options(s)
		o.Timeout = 700 * time.Millisecond
		o.Client = opts
		c := connect(t, o)
		ms := make([]*driver.Message, batches*batch)
		for i := range ms {
			key, n := fmt.Sprintf("%s-%d", name, i%keys), i/keys
			ms[i] = numbered(sub.Channel.Name, 0, n)
			ms[i].Key, ms[i].ID = key, fmt.Sprintf("%s/%d", key, n)
			ms[i].Headers = driver.Headers{{Name: "padding", Value: string(make([]byte, body))}}
		}
		senders.Go(func() {
			for i := 0; i < len(ms); i += batch {
				a, err := resend(c, ms[i:i+batch])
				if err != nil {
					t.Errorf("%s: %v", name, err)
					return
				}
				again.Add(int64(a))
			}
		})
	}
	changer.Go(func() {
		for !done.Load() {
			refuse(true)
			<-time.After(900 * time.Millisecond)
			refuse(false)
			<-time.After(200 * time.Millisecond)
		}
	})
	senders.Wait()
	done.Store(true)
	changer.Wait()
	n := len(clients) * batches * batch
	h.await(t, n)
	h.check(t, n)
	if again.Load() == 0 {
		t.Error("nothing was refused for long: the test shows nothing")
	}
	t.Logf("%d messages, %d sends again, %d copies", n, again.Load(), h.copies)
}
