package natsbus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
)

// A receiver pulls from the consumers of a group. The client writes what comes
// into a Go channel that has room for all that was asked for; nothing runs
// between calls.
type receiver struct {
	c       *Conn
	s       driver.Subscription
	stream  string
	lease   time.Duration
	in      chan *nats.Msg
	sources []*source
	members *membership // nil for a broadcast, which is alone
	delays  *delays
	revoked chan []int // partitions that are given up or were lost
	self    closer     // as the connection knows it

	closing chan struct{} // closed when Close begins
	end     sync.Once
	ended   chan struct{} // closed when Close is done
	wake    chan struct{} // capacity 1: there is something in the backlog

	receiving sync.Mutex  // held by Receive
	active    atomic.Bool // Receive is being called
	timer     *time.Timer
	visited   time.Time // when Receive last looked into in

	overMu sync.Mutex
	over   []string // pins that the server has said are over

	mu      sync.Mutex
	epoch   uint64      // of the link, when the sources were last right
	touched time.Time   // when the leases of what waits were last extended
	backlog []*nats.Msg // taken out of in and not handed out
	closed  bool
	unsure  time.Time // until when it is not asked again whether a consumer is there

	resting  bool // the last Receive was cancelled: nothing is asked for until the next
	quitting bool // Close has begun: nothing is asked for any more
}

var (
	_ driver.Receiver   = (*receiver)(nil)
	_ driver.Extender   = (*receiver)(nil)
	_ driver.Backlogger = (*receiver)(nil)
	_ driver.Widener    = (*receiver)(nil)
)

// Receive waits for deliveries and returns at most max of them.
func (r *receiver) Receive(ctx context.Context, max int) ([]*driver.Delivery, error) {
	r.receiving.Lock()
	defer r.receiving.Unlock()
	r.active.Store(true)
	defer r.active.Store(false)
	for {
		if err := r.open(); err != nil {
			return nil, err
		}
		if err := ctx.Err(); err != nil {
			if errors.Is(err, context.Canceled) {
				r.rest()
			}
			return nil, translate("receive from "+r.s.Channel.Name, err)
		}
		r.wakeUp()
		link := r.c.linkEvent()
		if err := r.denied(); err != nil {
			return nil, err
		}
		if err := r.resync(ctx); err != nil {
			return nil, err
		}
		ds, err := r.take(max)
		if len(ds) > 0 || err != nil {
			return ds, err
		}
		if r.outOfOrder() {
			continue
		}
		r.timer.Reset(pullHeartbeat)
		select {
		case m := <-r.in:
			r.mu.Lock()
			r.backlog = append(r.backlog, m)
			r.mu.Unlock()
		case <-r.wake:
		case <-ctx.Done():
		case <-r.closing:
		case <-link:
		case <-r.timer.C: // to look for what the server has forgotten
		}
	}
}

// denied returns an error if a request for messages was denied lately.
func (r *receiver) denied() error {
	if err := r.c.denials.since(time.Now().Add(-pullHeartbeat), "$JS.API.CONSUMER.MSG.NEXT."+r.stream+"."); err != nil {
		return fmt.Errorf("natsbus: receive from %s as %s: %w", r.s.Channel.Name, r.s.Group, err)
	}
	return nil
}

// open returns why the receiver cannot receive, if so.
func (r *receiver) open() error {
	select {
	case <-r.closing:
		return fmt.Errorf("natsbus: receiver of %s for %s %w", r.s.Group, r.s.Channel.Name, driver.ErrClosed)
	default:
		return r.c.ready()
	}
}

// take turns what has come into at most max deliveries, and asks for more.
func (r *receiver) take(max int) ([]*driver.Delivery, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, fmt.Errorf("natsbus: receiver of %s for %s %w", r.s.Group, r.s.Channel.Name, driver.ErrClosed)
	}
	now := time.Now()
	// What lay here for long may be about to be delivered again.
	stale := !r.visited.IsZero() && now.Sub(r.visited) > r.lease/3
	r.visited = now
	r.lapse()
	max = min(max, r.room())
	var out []*driver.Delivery
	var slab []slot
	var failed error
	for len(out) < max && failed == nil {
		m := r.next()
		if m == nil {
			break
		}
		src := r.sourceOf(m)
		if src == nil {
			continue // of an inbox that was given up
		}
		if isStatus(m) {
			failed = r.explain(src, src.status(m))
			continue
		}
		if r.won(src, m) {
			break
		}
		if src.joining {
			if r.collect(src, m); src.gap {
				break
			}
			continue
		}
		if !r.fits(m) || r.overtakes(src, m) {
			r.backlog = append([]*nats.Msg{m}, r.backlog...)
			break
		}
		if len(slab) == 0 {
			slab = make([]slot, min(max-len(out), len(r.in)+len(r.backlog)+1, slabSize))
			if out == nil {
				out = make([]*driver.Delivery, 0, min(max, len(r.in)+len(r.backlog)+1))
			}
		}
		if d := r.deliver(src, &slab[0], m, now, stale); d != nil {
			out = append(out, d)
			slab = slab[1:]
		}
	}
	r.renounce(now)
	if err := r.pull(now); err != nil && failed == nil {
		failed = translate("receive from "+r.s.Channel.Name, err)
	}
	r.touch(now)
	if len(out) > 0 {
		return out, nil // what failed will be met again
	}
	return nil, failed
}

// room is how many deliveries may be handed out.
func (r *receiver) room() int {
	n := r.s.Window
	for _, src := range r.sources {
		n -= src.held.n
	}
	return max(0, n)
}

// touch extends the leases of what waits here, because others of the window are
// in hand or not all has come that was asked back.
func (r *receiver) touch(now time.Time) {
	if now.Sub(r.touched) < r.lease/3 {
		return
	}
	for _, m := range r.waiting() {
		r.touched = now
		_ = r.c.nc.Publish(m.Reply, ackProgress)
	}
}

// slabSize is how many deliveries share an allocation; one that is held long
// keeps its neighbours in memory.
const slabSize = 64

// A slot is what a delivery takes in memory.
type slot struct {
	d driver.Delivery
	m driver.Message
	r receipt
}

func (r *receiver) next() *nats.Msg {
	if len(r.backlog) > 0 {
		m := r.backlog[0]
		r.backlog = r.backlog[1:]
		if len(r.backlog) == 0 {
			r.backlog = nil
		}
		return m
	}
	select {
	case m := <-r.in:
		return m
	default:
		return nil
	}
}

// sourceOf finds the source whose inbox m came to; nil for one that was given
// up.
func (r *receiver) sourceOf(m *nats.Msg) *source {
	for _, src := range r.sources {
		if src.sub == m.Sub {
			return src
		}
	}
	return nil
}

// deliver makes a delivery of m, or nil where it is one that is in hand: its
// lease was extended late, or an acknowledgement is on its way.
func (r *receiver) deliver(src *source, s *slot, m *nats.Msg, now time.Time, stale bool) *driver.Delivery {
	src.heard = now
	src.took(m)
	p, ok := placeOf(m.Reply)
	if !ok {
		return nil // no delivery of a consumer
	}
	src.last = max(src.last, p.consumer)
	if p.attempt > 1 {
		r.delays.drop(p.stream)
		if src.aside.has(p.stream, m.Reply) {
			return nil
		}
		if held := src.held.find(p.stream); held != nil {
			if now.Before(held.until) {
				held.reply = m.Reply
				return nil
			}
			src.held.remove(held) // its lease ran out, so it is no longer ours
			held.drop()
		}
	}
	if stale {
		_ = r.c.nc.Publish(m.Reply, ackProgress)
	}
	s.r = receipt{r: r, src: src, reply: m.Reply, seq: p.stream, until: now.Add(r.lease - r.margin())}
	s.d = driver.Delivery{Message: &s.m, Attempt: p.attempt, Partition: src.partition, Receipt: &s.r}
	if src.owned {
		m.Header.Del(pinHeader)
	} else {
		s.d.Partition = partitionOf(m.Subject)
	}
	s.d.Fault = decode(&s.m, r.s.Channel.Name, m.Header, m.Data)
	s.r.size = s.m.Size()
	src.held.add(&s.r)
	return &s.d
}

// fits reports whether m may be handed out: the first message may, whatever its
// size.
func (r *receiver) fits(m *nats.Msg) bool {
	if r.s.WindowBytes <= 0 {
		return true
	}
	n := 0
	for _, src := range r.sources {
		n += src.held.bytes
	}
	return n == 0 || n+len(m.Data) <= r.s.WindowBytes
}

// margin is how much earlier than the server's a lease ends here.
func (r *receiver) margin() time.Duration { return min(r.lease/10, time.Second) }
