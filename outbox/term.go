package outbox

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/dovetail-go/dovetail/internal/crash"
	"github.com/dovetail-go/dovetail/store"
)

// term is one leadership of one shard. Its main goroutine reads, sends and
// advances; others extend the lease, try held messages again, move delayed ones
// and tidy up.
type term[Tx any] struct {
	store.Term
	b        *Box[Tx]
	db       store.DB[Tx]
	conn     driver.Conn
	opts     *Options
	extended atomic.Pointer[time.Time]
	stopping <-chan struct{} // the service has ended
	stop     context.CancelCauseFunc
	send     context.Context // ends Options.DrainTimeout later than the service
	endSend  context.CancelFunc

	// What only the main goroutine touches.
	window  *window
	reader  reader
	limit   int       // how many messages are sent at once
	away    time.Time // the broker is away: nothing is sent before
	outages int       // sends in a row that found it so
	step    progress

	awaySince time.Time   // the first of those sends
	answered  bool        // the broker has, in this term
	hangs     atomic.Bool // a send has not come back
	unnoted   unnoted

	provisioned atomic.Int64 // when the channels were last provisioned again, Unix nanoseconds

	channels channels
	drainNow chan struct{} // there are held messages; one slot
	draining sync.Mutex    // held messages are on their way
	marks    marks
	volatile atomic.Pointer[volatile] // the broker that was published to
	restart  atomic.Pointer[volatile] // the broker that it is now, if that is another
}

func newTerm[Tx any](b *Box[Tx], st store.Term, stopping <-chan struct{}, stop context.CancelCauseFunc) *term[Tx] {
	t := &term[Tx]{
		Term: st, b: b, db: bounded[Tx]{b.db}, conn: b.conn, opts: &b.opts, stopping: stopping, stop: stop,
		window:   newWindow(b.conn.Capabilities()),
		channels: channels{m: map[string]*channel{}},
		drainNow: make(chan struct{}, 1),
	}
	t.extended.Store(&st.Until)
	t.send, t.endSend = context.WithCancel(context.Background())
	t.limit = t.batch()
	return t
}

// batch is how many messages are sent at once when all is well.
func (t *term[Tx]) batch() int {
	if m := t.conn.Capabilities().MaxBatch; m > 0 {
		return min(m, t.opts.Batch)
	}
	return t.opts.Batch
}

// resume begins where a cursor is.
func (t *term[Tx]) resume(c store.Cursor) {
	t.window = t.window.emptyCopy()
	t.reader = reader{after: c.Position}
	t.b.behind.Add(-int64(t.step.passed))
	t.step = progress{to: c.Position, written: t.step.written + 1}
	t.unnoted = unnoted{}
	t.channels.reset(c.Channels)
	t.marks.reset(c.Position)
	t.volatile.Store(&volatile{id: c.Incarnation})
	if len(c.Channels) > 0 {
		t.wakeDrain()
	}
}

func (t *term[Tx]) until() time.Time { return *t.extended.Load() }
func (t *term[Tx]) valid() bool      { return time.Now().Before(t.until()) }

// run publishes until the term ends, or, after the service has ended, until
// nothing is left or the time for that is over.
func (t *term[Tx]) run(ctx context.Context) error {
	defer t.reader.drain()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // before the read under way is awaited
	for failures, fine := 0, false; ; {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		ending := t.ending()
		idle, next, err := t.round(ctx)
		switch {
		case errors.Is(err, store.ErrFenced), ctx.Err() != nil:
			return err
		case err != nil:
			t.b.warnings.report("publish from the outbox", err)
			if ending {
				return nil
			}
			fine = false
			failures++
			if !backoff.Sleep(ctx, pace(failures-1, 50*time.Millisecond, mostAway)) {
				return context.Cause(ctx)
			}
			continue
		}
		if failures = 0; !fine {
			fine = true
			t.b.warnings.over("publish from the outbox") // of an earlier term, too
		}
		if ending && (idle && t.window.waiting == 0 || t.send.Err() != nil) {
			return nil
		}
		if idle {
			t.sleep(ctx, next, ending)
		}
	}
}

// ending reports whether the service has ended.
func (t *term[Tx]) ending() bool {
	select {
	case <-t.stopping:
		return true
	default:
		return false
	}
}

// sleep waits until something was written, the time has come, or the service
// or the term ends.
func (t *term[Tx]) sleep(ctx context.Context, next time.Time, ending bool) {
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	wake, page, stopping := t.reader.wake, t.reader.page, t.stopping
	if page != nil || t.full() {
		wake = nil // there is no room for it, or the read under way comes first
	}
	if ending {
		stopping = t.send.Done()
	}
	select {
	case <-wake:
	case f := <-page:
		t.reader.page, t.reader.ready = nil, &f
	case <-timer.C:
	case <-ctx.Done():
	case <-stopping:
	}
}

// round does one thing: it sends a batch, or finds that there is nothing to do
// before next.
func (t *term[Tx]) round(ctx context.Context) (idle bool, next time.Time, err error) {
	if v := t.restart.Swap(nil); v != nil {
		if err := t.rewind(ctx, v); err != nil {
			t.restart.CompareAndSwap(nil, v)
			return false, next, err
		}
	}
	if err := t.fill(ctx); err != nil {
		return false, next, err
	}
	if t.window.unread > 0 {
		t.holdUnreadable(time.Now())
	}
	t.pass()
	if t.advanceDue() {
		if err := t.advance(ctx); err != nil {
			return false, next, err
		}
	}
	now := time.Now()
	if t.away.After(now) {
		return true, t.earliest(t.away), nil
	}
	ready, next := t.window.ready(now, t.limit)
	if len(ready) == 0 {
		if t.window.waiting > 0 && t.full() && t.stuck(now) {
			return false, next, nil
		}
		return t.full() || t.reader.page != nil || !t.reader.wants(now), t.earliest(next), nil
	}
	if !t.full() {
		t.reader.prefetch(ctx, t) // while these are being sent
	}
	return false, next, t.publish(ready)
}

// earliest is the first of next, the next poll and the next advance.
func (t *term[Tx]) earliest(next time.Time) time.Time {
	others := []time.Time{t.step.due(t.opts.CursorInterval), t.unnoted.due()}
	if !t.full() && t.reader.page == nil {
		others = append(others, t.reader.pollAt)
	}
	for _, other := range others {
		if next.IsZero() || !other.IsZero() && other.Before(next) {
			next = other
		}
	}
	if next.IsZero() {
		next = time.Now().Add(t.opts.Poll)
	}
	return next
}

// full reports whether the window takes no more.
func (t *term[Tx]) full() bool {
	return len(t.window.entries) >= 2*t.opts.Batch<<t.reader.grown || t.window.bytes >= 2*t.opts.BatchBytes ||
		t.unnoted.bytes >= mostUnnoted*t.opts.BatchBytes
}

// publish sends entries and sorts out what became of them.
func (t *term[Tx]) publish(ready []*entry) error {
	if !t.valid() {
		return fmt.Errorf("publish: %w", store.ErrFenced)
	}
	err := t.sendAll(t.send, messagesOf(ready))
	if errors.Is(err, errHangs) {
		return err
	}
	crash.RelaySent.Pass()
	t.outcome(ready, err)
	return nil
}

func messagesOf(entries []*entry) []*driver.Message {
	messages := make([]*driver.Message, len(entries))
	for i, e := range entries {
		messages[i] = e.Message
	}
	return messages
}

// progress is what was published and is not written down yet.
type progress struct {
	to      store.Position
	passed  int       // how many the cursor is behind
	since   time.Time // when the first of them was published
	hold    []store.Held
	written int // how often it was begun again
}

// piggyback is progress that a read writes together with its own write. That saves a
// commit, and the relay does not wait for one.
type piggyback struct {
	to      store.Position
	passed  int
	at      time.Time
	written int
}

// due says when what was published is to be written down, zero if there is
// nothing.
func (p *progress) due(after time.Duration) time.Time {
	if p.passed == 0 && len(p.hold) == 0 {
		return time.Time{}
	}
	return p.since.Add(after)
}

// pass takes note of what is published from the front of the window.
func (t *term[Tx]) pass() {
	n, to := t.window.passed()
	if n == 0 {
		return
	}
	t.stamp()
	t.step.passed += n
	t.b.behind.Add(int64(n))
	t.step.to = to
	if t.window.waiting == 0 {
		t.reader.grown = 0
	}
}

func (t *term[Tx]) stamp() {
	if t.step.passed == 0 && len(t.step.hold) == 0 {
		t.step.since = time.Now()
	}
}

func (t *term[Tx]) advanceDue() bool {
	p := &t.step
	if at := t.unnoted.due(); !at.IsZero() && !time.Now().Before(at) {
		return true
	}
	at := p.due(t.opts.CursorInterval)
	return !at.IsZero() && (!time.Now().Before(at) || len(p.hold) >= t.opts.Batch ||
		p.passed >= 4*t.opts.Batch)
}

// advance writes down what was published and held.
func (t *term[Tx]) advance(ctx context.Context) error {
	p := &t.step
	held := len(p.hold) + len(t.unnoted.rows)
	if p.passed == 0 && held == 0 {
		return nil
	}
	if err := t.note(ctx, p); err != nil {
		return err
	}
	crash.RelayAdvanced.Pass()
	if held > 0 {
		crash.RelayHeld.Pass()
		t.channels.written(t.unnoted.lanes())
		t.wakeDrain()
	}
	t.marks.add(p.to, t.keep())
	t.b.behind.Add(-int64(p.passed))
	*p = progress{to: p.to, written: p.written + 1}
	return nil
}

// piggyback is what a read that begins now is told to write down: nothing before
// half of Options.CursorInterval is over, so that the cursor is not written with every
// message.
func (t *term[Tx]) piggyback() piggyback {
	p := &t.step
	now := time.Now()
	if p.passed == 0 || len(p.hold)+len(t.unnoted.rows) > 0 || now.Sub(p.since) < t.opts.CursorInterval/2 {
		return piggyback{}
	}
	return piggyback{p.to, p.passed, now, p.written}
}

// piggybacked takes note of what a read has written down, unless an advance did
// so meanwhile.
func (t *term[Tx]) piggybacked(a piggyback) {
	p := &t.step
	if a.written != p.written {
		return
	}
	t.marks.add(a.to, t.keep())
	t.b.behind.Add(-int64(a.passed))
	p.passed -= a.passed
	p.since = a.at // the rest was published after that
}

// leave writes down what is left to write and gives the lease back.
func (t *term[Tx]) leave(ctx context.Context) error {
	t.pass()
	err := t.advance(ctx)
	err = errors.Join(err, t.db.Resign(ctx, t.Lease))
	crash.RelayLeft.Pass()
	return err
}

// channels are what the relay knows of the channels' health, shared with the
// goroutine that tries held messages again.
type channels struct {
	mu      sync.Mutex
	m       map[string]*channel
	pending map[laneKey]bool // lanes held in memory, not yet in the store
	total   int64            // messages published
	writes  int              // how often held messages were set aside or written
}

type channel struct {
	published int64
	held      bool // it may have held lanes
	down      bool // everything on it fails: new messages are held untried
	revived   bool // it was down until now
	troubled  bool // it was said that nothing goes to it
	attempts  int
	retry     time.Time
	err       string
}

func (c *channels) reset(held []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.m, c.pending = map[string]*channel{}, map[laneKey]bool{}
	for _, name := range held {
		c.m[name] = &channel{held: true}
	}
}

// of returns the state of a channel; the lock is the caller's.
func (c *channels) of(name string) *channel {
	ch := c.m[name]
	if ch == nil {
		ch = &channel{}
		c.m[name] = ch
	}
	return ch
}

// written says that all held lanes are in the store, but for some.
func (c *channels) written(but []laneKey) {
	c.mu.Lock()
	clear(c.pending)
	for _, l := range but {
		c.pending[l] = true
	}
	c.writes++
	c.mu.Unlock()
}
