package kafkabus_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The server refuses everything in the middle of pipelines of several batches,
// then takes some of it, and refuses again; and one of the senders has a client whose buffer holds a part of what
// it sends.
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
	h := newHandled()
	defer consume(t, other, sub, h, 0)()

	const batch, keys = 100, 4
	const least, most = 12, 200 // batches of a sender: it goes on until there were enough refusals
	padding := string(make([]byte, 4<<10))
	const request = 32 << 10 // at most, of a partition: a Send is a pipeline of some twelve
	refused, taken := make(chan struct{}, 1), make(chan struct{}, 1)
	enough := make(chan struct{})
	var confirmed atomic.Int64
	var senders, changer sync.WaitGroup
	defer senders.Wait()
	clients := map[string][]kgo.Opt{"roomy": nil, "narrow": {kgo.MaxBufferedRecords(40)}, "third": nil, "fourth": nil}
	for name, opts := range clients {
		o := options(s)
		o.Timeout = 700 * time.Millisecond
		o.Client = append(opts, kgo.ProducerBatchMaxBytes(request))
		c := connect(t, o)
		ms := numberedAll(sub.Channel.Name, most*batch, keys)
		for _, m := range ms {
			m.Key, m.ID = name+m.Key, name+m.ID
			m.Headers = driver.Headers{{Name: "padding", Value: padding}}
		}
		senders.Go(func() {
			for i := 0; i < len(ms); i += batch {
				select {
				case <-enough:
					if i >= least*batch {
						return
					}
				default:
				}
				for left := ms[i : i+batch]; len(left) > 0; {
					n := len(left)
					err := c.Send(context.Background(), left)
					var se *driver.SendError
					switch {
					case err == nil:
						left = nil
					case errors.As(err, &se):
						if left, err = unconfirmed(left, se); err != nil {
							t.Error(err)
							return
						}
						signal(refused)
					}
					if len(left) < n {
						confirmed.Add(int64(n - len(left)))
						signal(taken)
					}
				}
			}
		})
	}
	all := make(chan struct{})
	changer.Go(func() { senders.Wait(); close(all) })
	for cycles := range 4 {
		refuse(true)
		if !either(t, refused, all) {
			t.Errorf("everything was sent after %d refusals", cycles)
			break
		}
		refuse(false)
		if !either(t, taken, all) {
			break
		}
	}
	close(enough)
	await(t, all)
	changer.Wait()
	n := int(confirmed.Load())
	h.await(t, n)
	h.check(t, n)
	t.Logf("%d messages, %d copies", n, h.copies)
}

// signal makes c ready, if it is not.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// either waits for the next signal on c, or for the end.
func either(t *testing.T, c, end <-chan struct{}) bool {
	select {
	case <-c: // an old one
	default:
	}
	select {
	case <-c:
		return true
	case <-end:
	case <-time.After(patience):
		t.Error("waited in vain")
	}
	return false
}
