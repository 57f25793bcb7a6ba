package dovetail

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/dovetail-go/dovetail/internal/crash"
)

// A source is one receiver of the broker, and the sink of what it receives.
// It opens the receiver, and opens it again when it breaks or stalls.
type source struct {
	s    *Service
	sub  driver.Subscription
	sink sink

	resume   bool          // the group of a broadcast subscription lives: the next receiver goes on where the last one was
	leaving  map[int]*exit // of partitions that were lost; revoke alone uses it
	optional bool          // it is looked for again by who opened it, rather than opened again and again

	opening sync.Mutex // held while the receiver is opened again

	mu        sync.Mutex
	receiver  driver.Receiver
	taken     driver.Receiver    // that delivered what is being fed
	receive   context.Context    // of the receiver's Receive; ends when it is replaced
	cancel    context.CancelFunc // of receive
	taking    bool               // in Receive, or feeding what it returned
	interrupt context.CancelFunc // of the Receive under way, where partitions can be lost
	pausing   int                // who wants nothing to be under way
	turn      sync.Cond          // taking or pausing changed
	wide      atomic.Bool        // the receiver is a driver.Widener
	aside     atomic.Bool        // something that it delivered was set aside
	last      atomic.Int64       // when something was last delivered or room was short, Unix nanoseconds
	fed       atomic.Int64       // how often something was delivered
	failed    atomic.Int64       // how many Receives in a row failed
}

// maxReceive bounds one Receive, so that a batch stays a good size to settle.
const maxReceive = 512

// open opens the receiver, trying again until ctx ends while the broker is
// away. The receiver's Receive ends with life. A broadcast subscription whose
// group is gone goes on from now.
func (src *source) open(ctx, life context.Context) error {
	for attempt := 1; ; attempt++ {
		sub := src.sub
		src.mu.Lock()
		sub.Resume = src.resume
		src.mu.Unlock()
		r, err := src.s.conn.OpenReceiver(ctx, sub)
		if err == nil {
			receive, cancel := context.WithCancel(life)
			src.mu.Lock()
			src.receiver, src.receive, src.cancel = r, receive, cancel
			src.resume = sub.Broadcast
			src.mu.Unlock()
			_, wide := r.(driver.Widener)
			src.wide.Store(wide)
			src.aside.Store(false)
			src.last.Store(time.Now().UnixNano())
			if src.failed.Load() == 0 {
				src.s.broker.back(src)
			} // else the outage ends in trust: a receiver that opens may still not receive
			return nil
		}
		if src.optional {
			return err
		}
		kind := src.s.conn.Classify(err)
		switch {
		case kind == driver.PositionLost && sub.Resume:
			src.lost(err)
			continue
		case kind == driver.PositionLost && sub.Broadcast: // it has none to lose: an engine that is not ready
		case kind == driver.NotFound:
			if perr := src.s.provisionAll(ctx); perr != nil {
				if src.current() == nil {
					return perr
				}
				err, kind = perr, src.s.conn.Classify(perr)
			}
		case kind == driver.PositionLost:
			return err
		}
		if src.ends(kind) {
			return err
		}
		src.away(attempt, kind, err)
		if !backoff.Sleep(ctx, reopenPolicy.Wait(attempt)) {
			return ctx.Err()
		}
	}
}

// ends reports whether an error of that kind ends the service (decision 0024):
// one that only another declaration takes away, before the receiver was open
// for the first time. While the service runs the operator may yet take it back.
func (src *source) ends(kind driver.Kind) bool {
	switch kind {
	case driver.Closed:
		return true
	case driver.Denied, driver.Conflict, driver.Unsupported:
		return src.current() == nil
	}
	return false
}

// lost notes that the group of a broadcast subscription is gone, with what it
// had not handled.
func (src *source) lost(err error) {
	src.mu.Lock()
	src.resume = false
	src.mu.Unlock()
	src.notice(Notice{Kind: NoticePositionLost, Err: err})
}

// reopenPolicy paces attempts to reach a broker that is away.
var reopenPolicy = RetryPolicy{First: 50 * time.Millisecond, Max: 5 * time.Second}.withDefaults()

func (src *source) current() driver.Receiver {
	r, _ := src.receiving()
	return r
}

func (src *source) receiving() (driver.Receiver, context.Context) {
	src.mu.Lock()
	defer src.mu.Unlock()
	return src.receiver, src.receive
}

// run receives until ctx ends. Only an error that ends the service is returned.
func (src *source) run(ctx context.Context) error {
	for {
		n, err := src.sink.room(ctx)
		if err != nil {
			src.take(1) // its context has ended: the receiver asks the broker for nothing more while handlers come to their end
			return nil
		}
		src.last.Store(time.Now().UnixNano())
		stop := src.trust()
		r, receive, some, err := src.take(min(n, maxReceive))
		stop()
		if some {
			src.failed.Store(0)
			src.s.broker.back(src)
		}
		if err == nil {
			continue
		}
		if ctx.Err() != nil {
			return nil
		}
		if receive.Err() != nil { // the watchdog is opening another, or wants one
			if err := src.reopen(ctx, r); err != nil {
				return ignoreCancel(ctx, err)
			}
			continue
		}
		failed := int(src.failed.Add(1))
		kind := src.s.conn.Classify(err)
		switch {
		case kind == driver.PositionLost && src.sub.Broadcast:
			src.lost(err)
		case kind == driver.PositionLost:
			src.notice(Notice{Kind: NoticePositionLost, Err: err})
			return err
		default:
			src.away(failed, kind, err)
		}
		if !backoff.Sleep(ctx, reopenPolicy.Wait(failed)) {
			return nil
		}
		// A broken link heals in the transport; a receiver that is gone, or
		// that stays broken, is opened again. So is one that may deliver again
		// what was set aside: it would be set aside twice.
		if kind != driver.Retryable || failed%5 == 0 || src.aside.Load() {
			if err := src.reopen(ctx, r); err != nil {
				return ignoreCancel(ctx, err)
			}
		}
	}
}

// trustAfter is how long a Receive must wait for messages, after one that
// failed, to be taken for one that works.
const trustAfter = 5 * time.Second

// trust ends the outage for this source when the next Receive waits for long enough
// without an error. stop is called when that Receive returns.
func (src *source) trust() (stop func()) {
	if src.failed.Load() == 0 {
		return func() {}
	}
	t := time.AfterFunc(trustAfter, func() {
		src.failed.Store(0)
		src.s.broker.back(src)
	})
	return func() { t.Stop() }
}

// away notes that the source cannot receive.
func (src *source) away(attempt int, kind driver.Kind, err error) {
	n := Notice{Kind: NoticeReceive, Channel: src.sub.Channel.Name, Group: src.sub.Group, Attempt: attempt, Err: err}
	src.s.broker.away(src, kind, n)
}

// take receives once and feeds what came.
func (src *source) take(max int) (r driver.Receiver, receive context.Context, some bool, err error) {
	src.mu.Lock()
	for src.pausing > 0 {
		src.turn.Wait()
	}
	r, receive = src.receiver, src.receive
	ctx := receive
	if _, ok := r.(driver.Revoker); ok {
		ctx, src.interrupt = context.WithCancel(receive)
		defer src.interrupt()
	}
	src.taking = true
	src.mu.Unlock()
	ds, err := r.Receive(ctx, max)
	if some = len(ds) > 0; some {
		src.last.Store(time.Now().UnixNano())
		crash.ConsumerReceived.Pass()
		src.fed.Add(1)
		src.taken = r
		src.sink.take(src, ds)
	}
	src.mu.Lock()
	src.taking = false
	src.turn.Broadcast()
	src.mu.Unlock()
	if ctx.Err() != nil && receive.Err() == nil {
		err = nil // it was interrupted
	}
	return r, receive, some, err
}

// pause waits until nothing is on its way from the receiver to the sink, and
// keeps it so until resume is called. A Receive that waits is interrupted.
func (src *source) pause() (resume func()) {
	src.mu.Lock()
	defer src.mu.Unlock()
	src.pausing++
	if src.interrupt != nil {
		src.interrupt()
	}
	for src.taking {
		src.turn.Wait()
	}
	return func() {
		src.mu.Lock()
		defer src.mu.Unlock()
		src.pausing--
		src.turn.Broadcast()
	}
}

// reopen replaces a receiver, unless somebody else just did. What has not begun
// of the old one is dropped: it comes again, perhaps to another instance, except
// where the channel keeps nothing. What has begun is handled to its end, and
// comes again as well; what is known to be handled is then settled alone.
func (src *source) reopen(ctx context.Context, old driver.Receiver) error {
	src.mu.Lock()
	if src.receiver == old {
		src.cancel() // a Receive that ignores Close must not hold us up
	}
	src.mu.Unlock()
	src.opening.Lock()
	defer src.opening.Unlock()
	if src.current() != old {
		return nil
	}
	if !src.sub.Channel.Transient {
		src.sink.drop(src.own)
	}
	closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	old.Close(closeCtx) // it is broken: its error says nothing new
	cancel()
	return src.open(ctx, ctx)
}

// own selects the items of this source: noExit for them, nil for others.
func (src *source) own(t *item) *exit {
	if t.from == src {
		return noExit
	}
	return nil
}

// settle settles deliveries, trying a few times: a message whose settlement is
// lost comes again, which costs more. It returns the receiver that it tried last.
func (src *source) settle(ctx context.Context, list []driver.Settlement) (driver.Receiver, error) {
	for attempt := 1; ; attempt++ {
		r := src.current()
		err := r.Settle(ctx, list)
		if err == nil || attempt == 4 || src.s.conn.Classify(err) != driver.Retryable || !backoff.Sleep(ctx, 10*time.Millisecond<<attempt) {
			return r, err
		}
	}
}

// renew has a receiver opened again by the goroutine that receives, unless that
// was done already.
func (src *source) renew(old driver.Receiver) {
	src.mu.Lock()
	defer src.mu.Unlock()
	if src.receiver == old {
		src.cancel()
	}
}

// close closes the receiver, which gives what is unsettled back to the group.
func (src *source) close(ctx context.Context) error {
	r := src.current()
	if r == nil {
		return nil
	}
	src.cancel()
	return r.Close(ctx)
}

// extend keeps the leases of what is in hand while ctx lasts.
func (src *source) extend(ctx context.Context) {
	lease := src.sub.Lease
	if lease == 0 {
		lease = src.s.caps.Lease
	}
	if _, ok := src.current().(driver.Extender); !ok || lease == 0 {
		return
	}
	tick := time.NewTicker(max(lease/3, time.Millisecond))
	defer tick.Stop()
	var ds []*driver.Delivery
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		clear(ds)
		ds = ds[:0]
		src.sink.each(src, func(t *item) { t.deliveries(func(d *driver.Delivery) { ds = append(ds, d) }) })
		if len(ds) == 0 {
			continue
		}
		if e, ok := src.current().(driver.Extender); ok {
			if err := e.Extend(ctx, ds); err != nil && ctx.Err() == nil {
				src.notice(Notice{Kind: NoticeReceive, Err: err, quiet: src.s.broker.isAway()})
			}
		}
	}
}

// notice tells of something that concerns this source.
func (src *source) notice(n Notice) {
	n.Channel, n.Group = src.sub.Channel.Name, src.sub.Group
	src.s.notice(n)
}

// watch opens the receiver again when it delivers nothing although messages
// wait: clients and brokers are known to stall in silence. What waits at two
// looks in a row is taken for stalled. It may as well be another instance's that
// is slow, and so a receiver that delivers nothing when it was opened again is
// given ever more time.
func (src *source) watch(ctx context.Context) {
	if _, ok := src.current().(driver.Backlogger); !ok {
		return
	}
	limit := src.s.opts.StallAfter
	tick := time.NewTicker(max(limit/4, time.Millisecond))
	defer tick.Stop()
	var (
		seen    int64 // deliveries at the last look
		waiting bool  // messages waited at the last look
		stalls  int   // in a row
	)
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		if n := src.fed.Load(); n != seen {
			seen, waiting, stalls = n, false, 0
			continue
		}
		if time.Since(time.Unix(0, src.last.Load())) < limit<<min(stalls, maxStallShift) {
			continue
		}
		r := src.current()
		b, ok := r.(driver.Backlogger)
		if !ok {
			continue
		}
		n, err := b.Backlog(ctx)
		waited := waiting
		waiting = err == nil && n > 0 && !src.busy()
		if !waiting || !waited {
			continue
		}
		waiting = false
		stalls++
		src.notice(Notice{Kind: NoticeStall})
		if err := src.reopen(ctx, r); err != nil && ctx.Err() == nil {
			src.notice(Notice{Kind: NoticeReceive, Err: err})
		}
	}
}

// maxStallShift bounds the time that is given: 64 times StallAfter.
const maxStallShift = 6

// busy reports whether the source has something in hand: then what waits may
// wait for that.
func (src *source) busy() bool {
	n := 0
	src.sink.each(src, func(*item) { n++ })
	return n > 0
}
