package drivertest

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// env is one test's view of the engine: names of its own, and helpers that fail
// the test with what was awaited.
type env struct {
	*testing.T
	h    Harness
	caps driver.Capabilities
	gaps *gapTable
	test string
	slug string
	seq  atomic.Int64
	from sync.Map // driver.Receiver to the driver.Conn that classifies its errors
}

func newEnv(t *testing.T, h Harness, caps driver.Capabilities, gaps *gapTable, name string) *env {
	var id [4]byte
	rand.Read(id[:])
	slug := strings.ToLower(strings.ReplaceAll(name, "_", "-"))
	if len(slug) > 40 {
		slug = strings.TrimRight(slug[:40], "-")
	}
	return &env{T: t, h: h, caps: caps, gaps: gaps, test: name, slug: "dt-" + hex.EncodeToString(id[:]) + "-" + slug}
}

// gap records that a part of the test does not apply to this transport.
func (e *env) gap(why string) { e.gaps.add(e.test, why) }

// within returns a context that ends after the harness's patience.
func (e *env) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), e.h.Patience)
}

// conn opens a connection that is closed when the test ends.
func (e *env) conn() driver.Conn {
	e.Helper()
	return e.open(e.h.Open)
}

// open is conn by other means.
func (e *env) open(by func(context.Context) (driver.Conn, error)) driver.Conn {
	e.Helper()
	ctx, cancel := e.within()
	defer cancel()
	c, err := by(ctx)
	if err != nil {
		e.Fatalf("open: %v", err)
	}
	e.Cleanup(func() {
		ctx, cancel := e.within()
		defer cancel()
		if err := c.Close(ctx); err != nil {
			e.Errorf("close connection: %v", err)
		}
	})
	return c
}

// crash ends a connection as the death of its process would. Where the engine
// learns late of what was settled, the process lives until it has.
func (e *env) crash(c driver.Conn) {
	e.Helper()
	e.learn(c)
	if e.h.Crash != nil {
		if err := e.h.Crash(c); err != nil {
			e.Fatalf("crash: %v", err)
		}
		return
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	_ = c.Close(ended) // it may well complain about the context
}

// learn waits until the engine has what was settled, where it has it late.
func (e *env) learn(c driver.Conn) {
	if !c.Capabilities().LateSettle {
		return
	}
	select {
	case <-time.After(e.h.Quiet):
	case <-e.Context().Done():
	}
}

func (e *env) unique(what string) string {
	return fmt.Sprintf("%s-%s%d", e.slug, what, e.seq.Add(1))
}

// channel names a new channel; it does not provision it.
func (e *env) channel(kind driver.ChannelKind) driver.Channel {
	return driver.Channel{Name: e.unique("c"), Kind: kind}
}

// subscription is the interest of an instance of group in ch.
func (e *env) subscription(ch driver.Channel, group string) driver.Subscription {
	return driver.Subscription{Channel: ch, Group: group, Instance: e.unique("i"), Window: 1000,
		Ordered: e.caps.Order >= driver.OrderOwner}
}

// another returns s for another instance of its group.
func (e *env) another(s driver.Subscription) driver.Subscription {
	s.Instance = e.unique("i")
	return s
}

func (e *env) provision(c driver.Conn, chs []driver.Channel, subs []driver.Subscription) {
	e.Helper()
	ctx, cancel := e.within()
	defer cancel()
	if err := c.Provision(ctx, chs, subs); err != nil {
		e.Fatalf("provision: %v", err)
	}
}

// queue provisions a new point-to-point channel and its group.
func (e *env) queue(c driver.Conn) (driver.Channel, driver.Subscription) {
	e.Helper()
	ch := e.channel(driver.PointToPoint)
	s := e.subscription(ch, "worker")
	e.provision(c, []driver.Channel{ch}, []driver.Subscription{s})
	return ch, s
}

// receiver opens a receiver that is closed when the test ends. Partitions that
// it loses are released at once, as the core does with no lane at work.
func (e *env) receiver(c driver.Conn, s driver.Subscription) driver.Receiver {
	e.Helper()
	ctx, cancel := e.within()
	defer cancel()
	r, err := c.OpenReceiver(ctx, s)
	for tick := time.Tick(20 * time.Millisecond); err != nil && c.Classify(err) == driver.Retryable && ctx.Err() == nil; {
		<-tick // the engine is just coming back
		r, err = c.OpenReceiver(ctx, s)
	}
	if err != nil {
		e.Fatalf("open receiver of %s for %s: %v", s.Group, s.Channel.Name, err)
	}
	e.from.Store(r, c)
	stop, stopped := make(chan struct{}), make(chan struct{})
	if rv, ok := r.(driver.Revoker); ok {
		go func() {
			defer close(stopped)
			for {
				select {
				case parts, ok := <-rv.Revoked():
					if !ok {
						return
					}
					ctx, cancel := e.within()
					if err := rv.Release(ctx, parts); err != nil {
						e.Logf("release %v: %v", parts, err)
					}
					cancel()
				case <-stop:
					return
				}
			}
		}()
	} else {
		close(stopped)
	}
	e.Cleanup(func() {
		ctx, cancel := e.within()
		defer cancel()
		if err := r.Close(ctx); err != nil && c.Classify(err) != driver.Closed {
			e.Errorf("close receiver: %v", err)
		}
		close(stop)
		<-stopped
	})
	return r
}

// classify asks the connection of r what kind of error err is.
func (e *env) classify(r driver.Receiver, err error) driver.Kind {
	if c, ok := e.from.Load(r); ok {
		return c.(driver.Conn).Classify(err)
	}
	return driver.Classify(err)
}

func (e *env) closeReceiver(r driver.Receiver) {
	e.Helper()
	ctx, cancel := e.within()
	defer cancel()
	if err := r.Close(ctx); err != nil {
		e.Fatalf("close receiver: %v", err)
	}
}

// message is the n-th message of key for ch, with a short body that says so.
func (e *env) message(ch driver.Channel, key string, n int) *driver.Message {
	return numbered(ch.Name, key, n)
}

// messages returns n messages for ch, over so many keys, each key numbered
// from 0.
func (e *env) messages(ch driver.Channel, n, keys int) []*driver.Message {
	return Numbered(ch.Name, "k", 0, n, keys)
}

func numbered(channel, key string, n int) *driver.Message {
	return &driver.Message{Channel: channel, ID: key + "/" + strconv.Itoa(n), Source: "drivertest", Type: "drivertest.numbered.v1",
		Time: time.Now().UTC().Truncate(time.Microsecond), ContentType: "text/plain", Key: key, Body: []byte(strconv.Itoa(n))}
}

// number is what message's n was.
func number(m *driver.Message) int {
	n, err := strconv.Atoi(string(m.Body))
	if err != nil {
		return -1
	}
	return n
}

func (e *env) send(c driver.Conn, ms ...*driver.Message) {
	e.Helper()
	ctx, cancel := e.within()
	defer cancel()
	if err := c.Send(ctx, ms); err != nil {
		e.Fatalf("send %d: %v", len(ms), err)
	}
}

// take receives until n deliveries are there, without settling any.
func (e *env) take(r driver.Receiver, n int) []*driver.Delivery {
	e.Helper()
	ctx, cancel := e.within()
	defer cancel()
	var got []*driver.Delivery
	for len(got) < n {
		ds, err := r.Receive(ctx, n-len(got))
		if err != nil && ctx.Err() == nil && e.classify(r, err) == driver.Retryable {
			continue
		}
		if err != nil {
			e.Fatalf("receive: %v; had %d of %d: %s", err, len(got), n, ids(got))
		}
		if len(ds) == 0 || len(ds) > n-len(got) {
			e.Fatalf("Receive(max %d) returned %d deliveries and no error", n-len(got), len(ds))
		}
		for _, d := range ds {
			if d == nil || d.Message == nil {
				e.Fatalf("Receive returned a delivery without a message")
			}
		}
		got = append(got, ds...)
	}
	return got
}

// one receives a single delivery.
func (e *env) one(r driver.Receiver) *driver.Delivery {
	e.Helper()
	return e.take(r, 1)[0]
}

// nothing checks that no delivery comes for a while.
func (e *env) nothing(r driver.Receiver, why string) {
	e.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), e.h.Quiet)
	defer cancel()
	ds, err := r.Receive(ctx, 10)
	if len(ds) > 0 {
		e.Fatalf("received %s, want nothing: %s", ids(ds), why)
	}
	if err == nil {
		e.Fatalf("Receive returned neither deliveries nor an error")
	}
	if !errors.Is(err, context.DeadlineExceeded) {
		e.Fatalf("Receive with nothing to receive: %v, want the context's error", err)
	}
}

func (e *env) settle(r driver.Receiver, o driver.Outcome, ds ...*driver.Delivery) {
	e.Helper()
	ss := make([]driver.Settlement, len(ds))
	for i, d := range ds {
		ss[i] = driver.Settlement{Delivery: d, Outcome: o}
	}
	e.settleAll(r, ss...)
}

func (e *env) settleAll(r driver.Receiver, ss ...driver.Settlement) {
	e.Helper()
	ctx, cancel := e.within()
	defer cancel()
	if err := r.Settle(ctx, ss); err != nil {
		e.Fatalf("settle %d: %v", len(ss), err)
	}
}
