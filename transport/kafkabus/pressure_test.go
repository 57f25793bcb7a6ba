package kafkabus_test

import (
	"context"
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

// The server refuses everything in the middle of pipelines of several batches,
// then takes some of it, and refuses again; and one of the senders has a client
// whose buffer holds a part of what it sends.
func TestSend_keeps_the_order_of_a_key_when_the_server_refuses(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	sub := subscription("refused", 2)
	other := connect(t, options(s))
	provision(t, other, sub.Channel, sub)
	adm := kadm.NewClient(plain(t, s))
	// No record is young enough. More copies in sync than the topic has would do
	// before Kafka 4, which takes them for as many as it has (KIP-966).
	refuse := func(yes bool) {
		age := "9223372036854775807"
		if yes {
			age = "0"
		}
		change := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "message.timestamp.before.max.ms", Value: &age}}
		done, err := adm.AlterTopicConfigs(context.Background(), change, sub.Channel.Name)
		if err == nil {
			_, err = done.On(sub.Channel.Name, nil)
		}
		if err != nil {
			t.Errorf("message.timestamp.before.max.ms: %v", err)
		}
	}
	group := drivertest.NewConsumerGroup(t, sub)
	group.Join(other, "1")

	const batch, keys, least = 100, 4, 12 // batches of a sender, which goes on until there were enough refusals
	padding := string(make([]byte, 4<<10))
	const request = 32 << 10 // at most, of a partition: a Send is a pipeline of some twelve
	enough := make(chan struct{})
	var taken atomic.Int64
	var senders sync.WaitGroup
	defer senders.Wait()
	end := sync.OnceFunc(func() { close(enough) })
	defer end()
	for name, opts := range map[string][]kgo.Opt{"roomy": nil, "narrow": {kgo.MaxBufferedRecords(40)}, "third": nil, "fourth": nil} {
		o := options(s)
		o.Timeout = 700 * time.Millisecond
		o.Client = append(opts, kgo.ProducerBatchMaxBytes(request))
		c := connect(t, o)
		senders.Go(func() {
			for i := 0; ; i += batch {
				select {
				case <-enough:
					if i >= least*batch {
						return
					}
				default:
				}
				ms := drivertest.Numbered(sub.Channel.Name, name, i, i+batch, keys)
				for _, m := range ms {
					m.Headers = driver.Headers{{Name: "padding", Value: padding}}
				}
				if err := group.Send(context.Background(), c, ms); err != nil {
					t.Error(err)
					return
				}
				taken.Add(1)
			}
		})
	}
	for range 4 {
		failed := group.Failed()
		refuse(true)
		eventually(t, func() string { return "a refusal" }, func() bool { return group.Failed() > failed })
		was := taken.Load()
		refuse(false)
		eventually(t, func() string { return "a batch to be taken" }, func() bool { return taken.Load() > was })
	}
	end()
	senders.Wait()
	group.Check()
}
