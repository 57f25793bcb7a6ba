package dovetail

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// gated is a connection whose sends wait until the test lets one go.
type gated struct {
	driver.Conn
	gate chan struct{}
	sent func(ms []*driver.Message)
}

func (g *gated) Capabilities() driver.Capabilities { return driver.Capabilities{Name: "gated"} }

func (g *gated) Classify(err error) driver.Kind { return driver.Classify(err) }

func (g *gated) Send(ctx context.Context, ms []*driver.Message) error {
	select {
	case <-g.gate:
	default:
		select {
		case <-g.gate:
		case <-ctx.Done():
			return fmt.Errorf("gate: %w", ctx.Err())
		}
	}
	g.sent(ms)
	return nil
}

// Callers who wait behind one key cost no more work each, however many wait.
func TestBatcher_works_as_much_for_a_message_however_many_wait_behind_one_key(t *testing.T) {
	work := func(t *testing.T, callers int, giveUp bool) float64 {
		var b batcher
		synctest.Test(t, func(t *testing.T) {
			conn := &gated{gate: make(chan struct{})}
			order := 0
			conn.sent = func(ms []*driver.Message) {
				for _, m := range ms {
					if m.ID != strconv.Itoa(order) {
						t.Errorf("message %s is sent at place %d", m.ID, order)
					}
					order++
				}
			}
			s := New("shop", conn, Options{})
			until := time.Now().Add(time.Hour)
			ctx, cancel := context.WithCancel(t.Context())
			var sending sync.WaitGroup
			for n := range callers {
				sending.Go(func() {
					err := b.send(ctx, s, []*driver.Message{{ID: strconv.Itoa(n), Key: "hot"}}, until)
					if (err != nil) != giveUp {
						t.Errorf("message %d: %v", n, err)
					}
				})
				synctest.Wait()
			}
			if giveUp {
				cancel()
			} else {
				close(conn.gate)
			}
			sending.Wait()
			cancel()
			if len(b.queue.lanes) != 0 || len(b.queue.ready) != 0 || b.flights != 0 || len(b.keys) != 0 {
				t.Errorf("left behind: %d lanes, %d ready, %d flights, %d keys", len(b.queue.lanes), len(b.queue.ready), b.flights, len(b.keys))
			}
		})
		return float64(b.queue.steps) / float64(callers)
	}
	for _, giveUp := range []bool{false, true} {
		t.Run(fmt.Sprintf("giveUp=%v", giveUp), func(t *testing.T) {
			few, many := work(t, 16, giveUp), work(t, 4096, giveUp)
			if many > 1.5*few {
				t.Errorf("%.1f steps a message with 4,096 callers, %.1f with 16", many, few)
			}
		})
	}
}

// Another key passes a hot one, and the hot one is not kept waiting by it.
func TestBatcher_lets_other_keys_pass_a_hot_one(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := &gated{gate: make(chan struct{})}
		var flights []int
		conn.sent = func(ms []*driver.Message) { flights = append(flights, len(ms)) }
		s := New("shop", conn, Options{})
		var b batcher
		until := time.Now().Add(time.Hour)
		var sending sync.WaitGroup
		send := func(key string) {
			sending.Go(func() {
				if err := b.send(t.Context(), s, []*driver.Message{{Key: key}}, until); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		for range 1000 {
			send("hot")
		}
		for n := range 3 {
			send(fmt.Sprint("other ", n))
		}
		if b.flights != maxFlights {
			t.Errorf("%d sends are under way, want %d", b.flights, maxFlights)
		}
		for range 6 {
			conn.gate <- struct{}{}
			synctest.Wait()
		}
		sending.Wait()
		alone, total := 0, 0
		for _, n := range flights {
			if total += n; n == 1 {
				alone++
			}
		}
		if total != 1003 || alone != 4 {
			t.Errorf("flights of %v messages, want 1,003 in all, four of one", flights)
		}
	})
}

// BenchmarkSend_one_key has many callers send messages of one key to a broker
// that answers in 100 µs. The processor time of a message is the same however
// many wait. A single caller shows what one send costs beside a broker that
// answers at once.
func BenchmarkSend_one_key(b *testing.B) {
	for _, callers := range []int{1, 16, 1024, 4096, 16384} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			conn := &gated{gate: make(chan struct{}), sent: func([]*driver.Message) { <-time.After(100 * time.Microsecond) }}
			if callers == 1 {
				conn.sent = func([]*driver.Message) {}
			}
			close(conn.gate)
			s := New("shop", conn, Options{})
			var bt batcher
			begin := make(chan struct{})
			var sending, ready sync.WaitGroup
			ready.Add(callers)
			for c := range callers {
				n := b.N / callers
				if c < b.N%callers {
					n++
				}
				sending.Go(func() {
					ready.Done()
					<-begin
					for range n {
						until := time.Now().Add(s.opts.SendTimeout)
						if err := bt.send(b.Context(), s, []*driver.Message{{Key: "hot"}}, until); err != nil {
							b.Error(err)
						}
					}
				})
			}
			ready.Wait()
			b.ReportAllocs()
			b.ResetTimer()
			from := processorTime(b)
			close(begin)
			sending.Wait()
			b.ReportMetric(float64(processorTime(b)-from)/float64(b.N), "cpu-ns/op")
		})
	}
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
