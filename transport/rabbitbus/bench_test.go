package rabbitbus_test

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
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/rabbitbus"
	amqp "github.com/rabbitmq/amqp091-go"
)

// The benchmarks measure against the client used as well as it can be, on the
// same server, in turns, and report the ratio of the medians. One iteration is
// one round of both; run them with -benchtime=5x. Queues are quorum queues, on
// both sides.

const (
	benchRound = 20_000 // messages
	benchBatch = 2000
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
				began := time.Now()
				a.publishRaw(queue, count, c.table)
				d.raw = append(d.raw, rate(count, began))
				ms := a.messages(s.Channel.Name, c.keys)
				began = time.Now()
				for range count / benchBatch {
					a.check(a.ours.Send(b.Context(), ms))
				}
				d.ours = append(d.ours, rate(count, began))
				done()
			}
			d.report(b, "msg/s")
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
		a.publishRaw(queue, benchRound, table)
		ms := a.messages(s.Channel.Name, 64)
		for range benchRound / benchBatch {
			a.check(a.ours.Send(b.Context(), ms))
		}
		d.raw = append(d.raw, a.consumeRaw(queue))
		d.ours = append(d.ours, a.consumeOurs(s))
		done()
	}
	d.report(b, "msg/s")
}

// consumeRaw acknowledges every hundred with one frame.
func (a *arena) consumeRaw(queue string) float64 {
	ch := a.channel()
	a.check(ch.Qos(2000, 0, false))
	began := time.Now()
	in, err := ch.Consume(queue, "", false, false, false, false, nil)
	a.check(err)
	for n := 1; n <= benchRound; n++ {
		if d := <-in; n%100 == 0 {
			a.check(d.Ack(true))
		}
	}
	defer func() { a.check(ch.Close()) }()
	return rate(benchRound, began)
}

func (a *arena) consumeOurs(s driver.Subscription) float64 {
	began := time.Now()
	r, err := a.ours.OpenReceiver(a.b.Context(), s)
	a.check(err)
	var ss []driver.Settlement
	for n := 0; n < benchRound; {
		ds, err := r.Receive(a.b.Context(), 256)
		a.check(err)
		for _, d := range ds {
			ss = append(ss, driver.Settlement{Delivery: d})
		}
		if n += len(ds); len(ss) >= 100 || n == benchRound { // as often as the raw client
			a.check(r.Settle(a.b.Context(), ss))
			ss = ss[:0]
		}
	}
	defer func() { a.check(r.Close(context.Background())) }()
	return rate(benchRound, began)
}

// BenchmarkLatency sends a thousand a second and measures from the schedule to
// the receiver's hands.
func BenchmarkLatency(b *testing.B) {
	const count, every = 2000, time.Millisecond
	a := newArena(b, func(*rabbitbus.Options) {})
	var raw, ours []time.Duration
	for b.Loop() {
		s, queue, done := a.round()
		pub, sub := a.channel(), a.channel()
		a.check(pub.Confirm(false))
		go func(confirms <-chan amqp.Confirmation) {
			for range confirms {
			}
		}(pub.NotifyPublish(make(chan amqp.Confirmation, 64)))
		in, err := sub.Consume(queue, "", false, false, false, false, nil)
		a.check(err)
		raw = append(raw, latencies(count, every,
			func(body []byte) {
				a.check(pub.Publish("", queue, true, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: body}))
			},
			func() [][]byte { d := <-in; a.check(d.Ack(false)); return [][]byte{d.Body} })...)
		a.check(pub.Close())
		a.check(sub.Close())

		r, err := a.ours.OpenReceiver(b.Context(), s)
		a.check(err)
		var wg sync.WaitGroup
		ours = append(ours, latencies(count, every,
			func(body []byte) {
				m := a.messages(s.Channel.Name, 0)[:1]
				m[0].Body = body
				wg.Go(func() { a.check(a.ours.Send(b.Context(), m)) })
			},
			func() (bodies [][]byte) {
				ds, err := r.Receive(b.Context(), 64)
				a.check(err)
				for _, d := range ds {
					bodies = append(bodies, d.Message.Body)
					a.check(r.Settle(b.Context(), []driver.Settlement{{Delivery: d}}))
				}
				return bodies
			})...)
		wg.Wait()
		a.check(r.Close(b.Context()))
		done()
	}
	slices.Sort(raw)
	slices.Sort(ours)
	b.ReportMetric(0, "ns/op")
	for _, p := range []int{50, 99} {
		r, o := raw[len(raw)*p/100], ours[len(ours)*p/100]
		b.ReportMetric(float64(r.Microseconds()), fmt.Sprintf("raw-p%d-µs", p))
		b.ReportMetric(float64(o.Microseconds()), fmt.Sprintf("p%d-µs", p))
		b.ReportMetric(float64(o)/float64(r), fmt.Sprintf("p%d-ratio", p))
	}
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
