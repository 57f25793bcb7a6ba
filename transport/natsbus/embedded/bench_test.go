package embedded_test

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// The benchmarks measure against the client used as well as it can be, on the
// same server, in turns, and report the ratio of the medians. One iteration is
// one round of both; run them with -benchtime=5x.

const (
	benchRound = 50_000 // messages
	benchBatch = 500
	benchBody  = 1024
)

// A duel is the rates of both sides by round.
type duel struct{ raw, ours []float64 }

func (d *duel) report(b *testing.B, unit string) {
	median := func(v []float64) float64 {
		slices.Sort(v)
		return v[len(v)/2]
	}
	raw, ours := median(d.raw), median(d.ours)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(raw, "raw-"+unit)
	b.ReportMetric(ours, unit)
	b.ReportMetric(ours/raw, "ratio")
}

// arena is a server with a client of each side, and a new stream for each round.
type arena struct {
	b    *testing.B
	ours *natsbus.Conn
	nc   *nats.Conn
	js   jetstream.JetStream
	n    int
}

func newArena(b *testing.B) *arena {
	server := newChild(b)
	ours, err := natsbus.Connect(b.Context(), natsbus.Options{URL: server.url(), Logger: quiet, Timeout: 30 * time.Second})
	if err != nil {
		b.Fatal(err)
	}
	nc, err := nats.Connect(server.url())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { nc.Close(); _ = ours.Close(context.Background()) })
	js, err := jetstream.New(nc, jetstream.WithPublishAsyncMaxPending(4096), jetstream.WithDefaultTimeout(30*time.Second))
	if err != nil {
		b.Fatal(err)
	}
	return &arena{b: b, ours: ours, nc: nc, js: js}
}

// round makes a channel with a group, and a raw stream with a consumer.
func (a *arena) round() (driver.Subscription, jetstream.Consumer, string) {
	a.n++
	name := "bench" + strconv.Itoa(a.n)
	s := driver.Subscription{Channel: driver.Channel{Name: name}, Group: "worker", Instance: "1", Window: 2000}
	if err := a.ours.Provision(a.b.Context(), nil, []driver.Subscription{s}); err != nil {
		a.b.Fatal(err)
	}
	raw := "raw" + name
	stream, err := a.js.CreateStream(a.b.Context(), jetstream.StreamConfig{Name: raw, Subjects: []string{raw}, Retention: jetstream.WorkQueuePolicy})
	if err != nil {
		a.b.Fatal(err)
	}
	consumer, err := stream.CreateConsumer(a.b.Context(), jetstream.ConsumerConfig{Durable: "worker", MaxAckPending: 65536})
	if err != nil {
		a.b.Fatal(err)
	}
	return s, consumer, raw
}

func (a *arena) clear(s driver.Subscription, raw string) {
	if err := a.ours.RemoveChannel(a.b.Context(), s.Channel.Name); err != nil {
		a.b.Fatal(err)
	}
	if err := a.js.DeleteStream(a.b.Context(), raw); err != nil {
		a.b.Fatal(err)
	}
}

func (a *arena) batch(channel string, n int) []*driver.Message {
	ms := make([]*driver.Message, n)
	for i := range ms {
		ms[i] = &driver.Message{Channel: channel, ID: "0197f2a1-0000-7000-8000-" + strconv.Itoa(100_000_000_000+i), Source: "ordering",
			Type: "ordering.order-placed.v1", Time: time.Now().UTC().Truncate(time.Microsecond), ContentType: "application/json",
			Key: "customer-" + strconv.Itoa(i%100), Body: make([]byte, benchBody)}
	}
	return ms
}

func (a *arena) publishRaw(subject string, n int) {
	body := make([]byte, benchBody)
	for range n {
		if _, err := a.js.PublishMsgAsync(&nats.Msg{Subject: subject, Data: body}, jetstream.WithStallWait(10*time.Second)); err != nil {
			a.b.Fatal(err)
		}
	}
	<-a.js.PublishAsyncComplete()
}

func (a *arena) publish(channel string, n, size int) {
	ms := a.batch(channel, size)
	for range n / size {
		if err := a.ours.Send(a.b.Context(), ms); err != nil {
			a.b.Fatal(err)
		}
	}
}

// BenchmarkPublish is one caller's batches, confirmed, against pipelined
// asynchronous publishing without an envelope.
func BenchmarkPublish(b *testing.B) {
	for _, size := range []int{100, benchBatch, 5000} {
		b.Run(fmt.Sprintf("batch=%d", size), func(b *testing.B) {
			a := newArena(b)
			var d duel
			for b.Loop() {
				s, _, raw := a.round()
				began := time.Now()
				a.publishRaw(raw, benchRound)
				d.raw = append(d.raw, benchRound/time.Since(began).Seconds())
				began = time.Now()
				a.publish(s.Channel.Name, benchRound, size)
				d.ours = append(d.ours, benchRound/time.Since(began).Seconds())
				a.clear(s, raw)
			}
			d.report(b, "msg/s")
		})
	}
}

// BenchmarkConsume handles a backlog with an empty handler and acknowledges
// each message.
func BenchmarkConsume(b *testing.B) {
	a := newArena(b)
	var d duel
	for b.Loop() {
		s, consumer, raw := a.round()
		a.publishRaw(raw, benchRound)
		a.publish(s.Channel.Name, benchRound, benchBatch)

		began := time.Now()
		done := make(chan struct{})
		n := 0
		cc, err := consumer.Consume(func(m jetstream.Msg) {
			if err := m.Ack(); err != nil {
				b.Error(err)
			}
			if n++; n == benchRound {
				close(done)
			}
		}, jetstream.PullMaxMessages(2000))
		if err != nil {
			b.Fatal(err)
		}
		<-done
		d.raw = append(d.raw, benchRound/time.Since(began).Seconds())
		cc.Stop()
		<-cc.Closed()

		began = time.Now()
		a.consume(s, benchRound)
		d.ours = append(d.ours, benchRound/time.Since(began).Seconds())
		a.clear(s, raw)
	}
	d.report(b, "msg/s")
}

// consume receives in one goroutine and settles in another, as the core does.
func (a *arena) consume(s driver.Subscription, n int) {
	r, err := a.ours.OpenReceiver(a.b.Context(), s)
	if err != nil {
		a.b.Fatal(err)
	}
	handled := make(chan []*driver.Delivery, 64)
	var wg sync.WaitGroup
	wg.Go(func() {
		var ss []driver.Settlement
		for ds := range handled {
			ss = ss[:0]
			for more := true; more; {
				for _, d := range ds {
					ss = append(ss, driver.Settlement{Delivery: d})
				}
				select {
				case ds, more = <-handled:
				default:
					more = false
				}
			}
			if err := r.Settle(a.b.Context(), ss); err != nil {
				a.b.Error(err)
			}
		}
	})
	for got := 0; got < n; {
		ds, err := r.Receive(a.b.Context(), 256)
		if err != nil {
			a.b.Fatal(err)
		}
		got += len(ds)
		handled <- ds
	}
	close(handled)
	wg.Wait()
	if err := r.Close(a.b.Context()); err != nil {
		a.b.Fatal(err)
	}
}

// BenchmarkLatency is the time from send to receipt at 1,000 messages a second,
// one at a time, in nanoseconds; the ratio is to the raw client's.
func BenchmarkLatency(b *testing.B) {
	a := newArena(b)
	var rawP50, rawP99, p50, p99 duel
	for b.Loop() {
		s, consumer, raw := a.round()
		const n = 2000
		lat := make([]time.Duration, 0, n)
		body := make([]byte, benchBody)
		cc, err := consumer.Messages(jetstream.PullMaxMessages(2000))
		if err != nil {
			b.Fatal(err)
		}
		stamps := make([]time.Time, n)
		var wg sync.WaitGroup
		wg.Go(func() {
			pace(n, func(i int, due time.Time) {
				stamps[i] = due
				if _, err := a.js.PublishMsgAsync(&nats.Msg{Subject: raw, Data: body}); err != nil {
					b.Error(err)
				}
			})
		})
		for i := range n {
			m, err := cc.Next()
			if err != nil {
				b.Fatal(err)
			}
			lat = append(lat, time.Since(stamps[i]))
			_ = m.Ack()
		}
		cc.Stop()
		wg.Wait()
		slices.Sort(lat)
		rawP50.raw, rawP99.raw = append(rawP50.raw, float64(lat[n/2])), append(rawP99.raw, float64(lat[n*99/100]))

		r, err := a.ours.OpenReceiver(b.Context(), s)
		if err != nil {
			b.Fatal(err)
		}
		lat = lat[:0]
		ms := a.batch(s.Channel.Name, n)
		wg.Go(func() {
			var sends sync.WaitGroup
			pace(n, func(i int, due time.Time) {
				stamps[i] = due
				sends.Go(func() {
					if err := a.ours.Send(b.Context(), ms[i:i+1]); err != nil {
						b.Error(err)
					}
				})
			})
			sends.Wait()
		})
		settle := make(chan []*driver.Delivery, n)
		wg.Go(func() {
			for ds := range settle {
				var ss []driver.Settlement
				for _, d := range ds {
					ss = append(ss, driver.Settlement{Delivery: d})
				}
				if err := r.Settle(b.Context(), ss); err != nil {
					b.Error(err)
				}
			}
		})
		for len(lat) < n {
			ds, err := r.Receive(b.Context(), 256)
			if err != nil {
				b.Fatal(err)
			}
			for range ds {
				lat = append(lat, time.Since(stamps[len(lat)]))
			}
			settle <- ds
		}
		close(settle)
		wg.Wait()
		_ = r.Close(b.Context())
		slices.Sort(lat)
		p50.ours, p99.ours = append(p50.ours, float64(lat[n/2])), append(p99.ours, float64(lat[n*99/100]))
		a.clear(s, raw)
	}
	at := func(v []float64) float64 { slices.Sort(v); return v[len(v)/2] }
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(at(rawP50.raw), "raw-p50-ns")
	b.ReportMetric(at(p50.ours), "p50-ns")
	b.ReportMetric(at(p50.ours)/at(rawP50.raw), "p50-ratio")
	b.ReportMetric(at(rawP99.raw), "raw-p99-ns")
	b.ReportMetric(at(p99.ours), "p99-ns")
	b.ReportMetric(at(p99.ours)/at(rawP99.raw), "p99-ratio")
}

// pace calls do n times, a millisecond apart by the schedule.
func pace(n int, do func(i int, due time.Time)) {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for i := range n {
		do(i, <-tick.C)
	}
}

// BenchmarkRequest is a request over a kept channel with its reply over a
// transient one, one caller, against core NATS request and reply.
func BenchmarkRequest(b *testing.B) {
	a := newArena(b)
	ctx := b.Context()
	s, _, _ := a.round()
	replies := driver.Subscription{Channel: driver.Channel{Name: "replies", Transient: true}, Group: "caller", Instance: "1", Window: 100}
	server, err := a.ours.OpenReceiver(ctx, s)
	if err != nil {
		b.Fatal(err)
	}
	if err := a.ours.Provision(ctx, nil, []driver.Subscription{replies}); err != nil {
		b.Fatal(err)
	}
	caller, err := a.ours.OpenReceiver(ctx, replies)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := a.nc.Subscribe("raw.request", func(m *nats.Msg) { _ = m.Respond(m.Data) }); err != nil {
		b.Fatal(err)
	}
	raw, err := nats.Connect(a.nc.ConnectedUrl())
	if err != nil {
		b.Fatal(err)
	}
	defer raw.Close()
	body := make([]byte, benchBody)
	var rawLat, lat []time.Duration
	stop, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	settle := make(chan driver.Settlement, 16)
	wg.Go(func() {
		for {
			ds, err := server.Receive(stop, 16)
			if err != nil {
				return
			}
			for _, d := range ds {
				reply := &driver.Message{Channel: d.Message.ReplyTo, ID: "r" + d.Message.ID, Source: "server", Type: "reply.v1", Body: d.Message.Body}
				if err := a.ours.Send(stop, []*driver.Message{reply}); err != nil {
					return
				}
				settle <- driver.Settlement{Delivery: d}
			}
		}
	})
	wg.Go(func() {
		for {
			select {
			case s := <-settle:
				if err := server.Settle(ctx, []driver.Settlement{s}); err != nil {
					b.Error(err)
				}
			case <-stop.Done():
				return
			}
		}
	})
	i := 0
	for b.Loop() {
		began := time.Now()
		if _, err := raw.Request("raw.request", body, time.Second); err != nil {
			b.Fatal(err)
		}
		rawLat = append(rawLat, time.Since(began))
		began = time.Now()
		i++
		if err := a.ours.Send(ctx, []*driver.Message{{Channel: s.Channel.Name, ID: strconv.Itoa(i), Source: "caller", Type: "request.v1", ReplyTo: "replies", Body: body}}); err != nil {
			b.Fatal(err)
		}
		ds, err := caller.Receive(ctx, 1)
		if err != nil {
			b.Fatal(err)
		}
		lat = append(lat, time.Since(began))
		_ = caller.Settle(ctx, []driver.Settlement{{Delivery: ds[0]}})
	}
	cancel()
	wg.Wait()
	slices.Sort(lat)
	slices.Sort(rawLat)
	b.ReportMetric(float64(rawLat[len(rawLat)/2]), "raw-core-p50-ns")
	b.ReportMetric(float64(lat[len(lat)/2]), "p50-ns")
	b.ReportMetric(float64(lat[len(lat)*99/100]), "p99-ns")
}

// BenchmarkSuite is drivertest's own, for comparison between transports.
func BenchmarkSuite(b *testing.B) {
	server := newChild(b)
	drivertest.Bench(b, drivertest.Harness{Open: func(ctx context.Context) (driver.Conn, error) {
		return natsbus.Connect(ctx, natsbus.Options{URL: server.url(), Logger: quiet})
	}})
}
