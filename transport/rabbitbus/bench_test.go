package rabbitbus_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/rabbitbus"
	amqp "github.com/rabbitmq/amqp091-go"
)

// The benchmarks measure against the client used as well as it can be, on the
// same server, in turns, and report the median of the rounds' ratios. One
// iteration is one short round of both, so that what else the machine does hits
// both; run them with -benchtime=21x. Queues are quorum queues, on both sides.

const (
	benchRound = 6000   // messages
	benchQueue = 20_000 // messages that wait where consumers are measured: to begin takes some round trips
	benchBatch = 2000
	benchBody  = 1024
)

// A duel is what both sides reached by round, and the time that processors
// worked for them in this process, which a busy machine changes less.
type duel struct {
	raw, ours       []float64
	rawCPU, oursCPU time.Duration
}

// round runs both sides, the one first that was second before.
func (d *duel) round(raw, ours func() float64) {
	one := func(side func() float64, rates *[]float64, spent *time.Duration) {
		before := cpu()
		*rates = append(*rates, side())
		*spent += cpu() - before
	}
	if len(d.raw)%2 == 0 {
		one(raw, &d.raw, &d.rawCPU)
		one(ours, &d.ours, &d.oursCPU)
		return
	}
	one(ours, &d.ours, &d.oursCPU)
	one(raw, &d.raw, &d.rawCPU)
}

// cpu is how long processors have worked for this process.
func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func (d *duel) report(b *testing.B, unit, ratio string) {
	median := func(v []float64) float64 {
		v = slices.Sorted(slices.Values(v))
		return v[len(v)/2]
	}
	ratios := make([]float64, len(d.raw))
	for i := range ratios {
		ratios[i] = d.ours[i] / d.raw[i]
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(d.raw), "raw-"+unit)
	b.ReportMetric(median(d.ours), unit)
	b.ReportMetric(median(ratios), ratio)
	if d.rawCPU > 0 {
		b.ReportMetric(float64(d.oursCPU)/float64(d.rawCPU), "cpu-ratio")
	}
	b.Logf("%s of %d rounds: %.2f", ratio, len(ratios), slices.Sorted(slices.Values(ratios)))
}

// arena is a server with a client of each side, and new queues for each round.
type arena struct {
	b    *testing.B
	ours *rabbitbus.Conn
	conn *amqp.Connection
	n    int
}

func newArena(b *testing.B, change func(*rabbitbus.Options)) *arena {
	srv := servers.Shared(b, servers.RabbitMQ)
	o := optionsFor(b, srv)
	o.Timeout = 30 * time.Second
	change(&o)
	ours, err := rabbitbus.Connect(context.Background(), o)
	if err != nil {
		b.Fatal(err)
	}
	conn, err := amqp.Dial(srv.URL())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close(); _ = ours.Close(context.Background()) })
	return &arena{b: b, ours: ours, conn: conn}
}

func (a *arena) channel() *amqp.Channel {
	ch, err := a.conn.Channel()
	a.check(err)
	return ch
}

func (a *arena) check(err error) {
	a.b.Helper()
	if err != nil {
		a.b.Fatal(err)
	}
}

// round makes a channel with a group, and a queue for the raw client.
func (a *arena) round() (s driver.Subscription, queue string, done func()) {
	a.n++
	name := "bench-" + strconv.Itoa(a.n) + "-" + strconv.Itoa(a.b.N) + "-" + strconv.FormatInt(time.Now().UnixNano(), 36)
	s = driver.Subscription{Channel: driver.Channel{Name: name}, Group: "worker", Instance: "1", Window: 2000}
	a.check(a.ours.Provision(a.b.Context(), nil, []driver.Subscription{s}))
	queue = "raw-" + name
	ch := a.channel()
	_, err := ch.QueueDeclare(queue, true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum})
	a.check(err)
	return s, queue, func() {
		_, err := ch.QueueDelete(queue, false, false, false)
		a.check(err)
		a.check(ch.Close())
		a.check(a.ours.RemoveChannel(context.Background(), name))
	}
}

func (a *arena) messages(channel string, keys int) []*driver.Message {
	ms := make([]*driver.Message, benchBatch)
	for i := range ms {
		ms[i] = &driver.Message{Channel: channel, ID: "0197f2a1-0000-7000-8000-" + strconv.Itoa(100000+i), Source: "bench", Type: "bench.sent.v1",
			Time: time.Now(), ContentType: "application/json", Body: make([]byte, benchBody)}
		if keys > 0 {
			ms[i].Key = "k" + strconv.Itoa(i%keys)
		}
	}
	return ms
}

func rate(n int, began time.Time) float64 { return float64(n) / time.Since(began).Seconds() }

// publishRaw keeps as many unconfirmed as a batch of ours.
func (a *arena) publishRaw(queue string, n int, table amqp.Table) {
	ch := a.channel()
	a.check(ch.Confirm(false))
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, benchBatch))
	body := make([]byte, benchBody)
	open := 0
	wait := func() {
		if c := <-confirms; !c.Ack {
			a.b.Fatal("refused")
		}
		open--
	}
	for range n {
		for open >= benchBatch {
			wait()
		}
		a.check(ch.Publish("", queue, true, false, amqp.Publishing{DeliveryMode: amqp.Persistent, ContentType: "application/json", Body: body, Headers: table}))
		open++
	}
	for open > 0 {
		wait()
	}
	a.check(ch.Close())
}

// envelope is the headers that a message of ours has. The server takes a message
// apart, so that headers cost it time, whoever sends them.
var envelope = amqp.Table{"cloudEvents_specversion": "1.0", "cloudEvents_id": "0197f2a1-0000-7000-8000-100000", "cloudEvents_source": "bench",
	"cloudEvents_type": "bench.sent.v1", "cloudEvents_time": "2026-11-21T10:59:29.257166Z", "dovetail-stamp": int64(1795257634525995378)}

func BenchmarkPublish(b *testing.B) {
	for _, c := range []struct {
		name   string
		keys   int
		table  amqp.Table // of the raw client's messages
		change func(*rabbitbus.Options)
	}{
		{"no-key", 0, nil, func(*rabbitbus.Options) {}},
		{"no-key-beside-same-headers", 0, envelope, func(*rabbitbus.Options) {}},
		{"64-keys", 64, nil, func(*rabbitbus.Options) {}},
		{"1-key", 1, nil, func(*rabbitbus.Options) {}},
		{"1-key-pipelined", 1, nil, func(o *rabbitbus.Options) { o.PipelineKeys = true }},
	} {
		b.Run(c.name, func(b *testing.B) {
			a := newArena(b, c.change)
			var d duel
			count := benchRound
			if c.keys == 1 {
				count /= 10
			}
			for b.Loop() {
				s, queue, done := a.round()
				ms := a.messages(s.Channel.Name, c.keys)[:min(benchBatch, count)]
				d.round(func() float64 {
					began := time.Now()
					a.publishRaw(queue, count, c.table)
					return rate(count, began)
				}, func() float64 {
					began := time.Now()
					for range count / len(ms) {
						a.check(a.ours.Send(b.Context(), ms))
					}
					return rate(count, began)
				})
				done()
			}
			d.report(b, "msg/s", "ratio")
		})
	}
}

func BenchmarkConsume(b *testing.B) {
	b.Run("beside-none", func(b *testing.B) { benchConsume(b, nil) })
	b.Run("beside-same-headers", func(b *testing.B) { benchConsume(b, envelope) })
}

func benchConsume(b *testing.B, table amqp.Table) {
	a := newArena(b, func(*rabbitbus.Options) {})
	var d duel
	for b.Loop() {
		s, queue, done := a.round()
		a.publishRaw(queue, benchQueue, table)
		ms := a.messages(s.Channel.Name, 64)
		for range benchQueue / benchBatch {
			a.check(a.ours.Send(b.Context(), ms))
		}
		d.round(func() float64 { return a.consumeRaw(queue) }, func() float64 { return a.consumeOurs(s) })
		done()
	}
	d.report(b, "msg/s", "ratio")
}

// consumeRaw acknowledges every hundred with one frame. The clock starts with
// the first delivery, on both sides.
func (a *arena) consumeRaw(queue string) float64 {
	ch := a.channel()
	a.check(ch.Qos(2000, 0, false))
	in, err := ch.Consume(queue, "", false, false, false, false, nil)
	a.check(err)
	var began time.Time
	for n := 1; n <= benchQueue; n++ {
		d := <-in
		if n == 1 {
			began = time.Now()
		}
		if n%100 == 0 {
			a.check(d.Ack(true))
		}
	}
	defer func() { a.check(ch.Close()) }()
	return rate(benchQueue, began)
}

func (a *arena) consumeOurs(s driver.Subscription) float64 {
	r, err := a.ours.OpenReceiver(a.b.Context(), s)
	a.check(err)
	var began time.Time
	var ss []driver.Settlement
	for n := 0; n < benchQueue; {
		ds, err := r.Receive(a.b.Context(), 256)
		a.check(err)
		if n == 0 {
			began = time.Now()
		}
		for _, d := range ds {
			ss = append(ss, driver.Settlement{Delivery: d})
		}
		if n += len(ds); len(ss) >= 100 || n == benchQueue { // as often as the raw client
			a.check(r.Settle(a.b.Context(), ss))
			ss = ss[:0]
		}
	}
	defer func() { a.check(r.Close(context.Background())) }()
	return rate(benchQueue, began)
}

// BenchmarkLatency sends a thousand a second and measures from the schedule to
// the receiver's hands.
func BenchmarkLatency(b *testing.B) {
	const count, every = 2000, time.Millisecond
	a := newArena(b, func(*rabbitbus.Options) {})
	var p50, p99 duel
	for b.Loop() {
		s, queue, done := a.round()
		var raw, ours []time.Duration
		var both duel
		both.raw, both.ours = p50.raw, p50.ours // whose turn it is
		both.round(func() float64 { raw = a.latencyRaw(queue, count, every); return 0 },
			func() float64 { ours = a.latencyOurs(s, count, every); return 0 })
		at := func(all []time.Duration, percent int) float64 {
			return float64(slices.Sorted(slices.Values(all))[len(all)*percent/100].Microseconds())
		}
		p50.raw, p50.ours = append(p50.raw, at(raw, 50)), append(p50.ours, at(ours, 50))
		p99.raw, p99.ours = append(p99.raw, at(raw, 99)), append(p99.ours, at(ours, 99))
		done()
	}
	p50.report(b, "p50-µs", "p50-ratio")
	p99.report(b, "p99-µs", "p99-ratio")
}

func (a *arena) latencyRaw(queue string, count int, every time.Duration) []time.Duration {
	pub, sub := a.channel(), a.channel()
	a.check(pub.Confirm(false))
	go func(confirms <-chan amqp.Confirmation) {
		for range confirms {
		}
	}(pub.NotifyPublish(make(chan amqp.Confirmation, 64)))
	in, err := sub.Consume(queue, "", false, false, false, false, nil)
	a.check(err)
	defer func() { a.check(errors.Join(pub.Close(), sub.Close())) }()
	return latencies(count, every,
		func(body []byte) {
			a.check(pub.Publish("", queue, true, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: body}))
		},
		func() [][]byte { d := <-in; a.check(d.Ack(false)); return [][]byte{d.Body} })
}

func (a *arena) latencyOurs(s driver.Subscription, count int, every time.Duration) []time.Duration {
	ctx := context.Background()
	r, err := a.ours.OpenReceiver(ctx, s)
	a.check(err)
	var wg sync.WaitGroup
	defer func() { wg.Wait(); a.check(r.Close(ctx)) }()
	m := a.messages(s.Channel.Name, 0)[0]
	return latencies(count, every,
		func(body []byte) {
			m := *m
			m.Body = body
			wg.Go(func() { a.check(a.ours.Send(ctx, []*driver.Message{&m})) })
		},
		func() (bodies [][]byte) {
			ds, err := r.Receive(ctx, 64)
			a.check(err)
			for _, d := range ds {
				bodies = append(bodies, d.Message.Body)
				a.check(r.Settle(ctx, []driver.Settlement{{Delivery: d}}))
			}
			return bodies
		})
}

// latencies sends count bodies, each stamped with when it was scheduled, and
// returns how much later each arrived.
func latencies(count int, every time.Duration, send func([]byte), receive func() [][]byte) []time.Duration {
	all := make([]time.Duration, 0, count)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for len(all) < count {
			for _, b := range receive() {
				at, _ := strconv.ParseInt(string(b[:19]), 10, 64)
				all = append(all, time.Duration(time.Now().UnixNano()-at))
			}
		}
	}()
	tick := time.NewTicker(every)
	defer tick.Stop()
	began := time.Now()
	for n := range count {
		at := began.Add(time.Duration(n) * every)
		for time.Now().Before(at) {
			<-tick.C
		}
		body := make([]byte, benchBody)
		copy(body, strconv.FormatInt(at.UnixNano(), 10))
		send(body)
	}
	<-done
	return all
}

func BenchmarkBatch(b *testing.B) {
	srv := servers.Shared(b, servers.RabbitMQ)
	drivertest.Bench(b, harness(b, srv, func(*rabbitbus.Options) {}))
}
