package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/dovetail-go/dovetail/outbox"
)

// writer is a process that writes.
type writer struct {
	*process
	do     doer
	events map[string][]dovetail.Event[Note] // by path

	turn        atomic.Uint64 // of Paths
	large, slow pace          // what only the first writer publishes, now and then

	mu   sync.Mutex
	gate chan struct{} // closed: go on; nil: go on
}

func newWriter(p *process) (*writer, error) {
	told, err := openDiary(p.File)
	if err != nil {
		return nil, err
	}
	p.told = told
	w := &writer{process: p, events: map[string][]dovetail.Event[Note]{}}
	for _, name := range append([]string{""}, p.Paths...) {
		w.events[name] = p.events(name)
	}
	if p.First {
		w.large.every, w.slow.every = largeEvery, slowEvery
	}
	w.turn.Store(rand.New(rand.NewPCG(p.Seed+p.Life<<32, 1<<30)).Uint64()) // one that is killed often goes by all as well
	p.declare()
	w.do = p.db.writer(p.svc, outbox.Options{NoRelay: true})
	return w, nil
}

// run writes until ctx ends; what has begun by then is finished.
func (w *writer) run(ctx context.Context) error {
	var all sync.WaitGroup
	for i := range w.Writers {
		all.Go(func() { w.write(ctx, uint64(i)) })
	}
	if w.Long {
		all.Go(func() { w.long(ctx) })
	}
	all.Go(func() { w.obey(ctx) })
	all.Wait()
	return w.told.close()
}

// obey waits for orders.
func (w *writer) obey(ctx context.Context) {
	for {
		select {
		case o := <-w.orders:
			w.mu.Lock()
			switch {
			case o.Pause && w.gate == nil:
				w.gate = make(chan struct{})
			case !o.Pause && w.gate != nil:
				close(w.gate)
				w.gate = nil
			}
			w.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// may waits until the writers may write, and reports whether they are to go on.
func (w *writer) may(ctx context.Context) bool {
	w.mu.Lock()
	gate := w.gate
	w.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
		}
	}
	return ctx.Err() == nil
}

var errPlanned = errors.New("is rolled back as planned")

// write runs one short transaction after the other.
func (w *writer) write(ctx context.Context, stream uint64) {
	r := rand.New(rand.NewPCG(w.Seed+w.Life<<32, stream))
	for failures := 0; w.may(ctx); {
		t := transaction{w: w, r: r, id: dovetail.NewID(), now: r.IntN(5) == 0}
		if r.Float64() < w.Rollbacks {
			t.end = errPlanned
		}
		result := t.run(ctx, t.short)
		if result == Committed || result == RolledBack {
			failures = 0
			continue
		}
		failures++
		backoff.Sleep(ctx, min(time.Second, time.Duration(failures)*20*time.Millisecond))
	}
}

// long runs transactions that stay open for long: what they write first, early,
// commits after what others wrote later.
func (w *writer) long(ctx context.Context) {
	r := rand.New(rand.NewPCG(w.Seed+w.Life<<32, 1<<31))
	between := w.LongTx / 2
	if w.db.oneWriter() {
		between = 4 * w.LongTx // all others wait meanwhile
	}
	for backoff.Sleep(ctx, between) && w.may(ctx) {
		t := transaction{w: w, r: r, id: dovetail.NewID(), now: r.IntN(2) == 0}
		t.run(ctx, func(ctx context.Context, in work) error {
			if err := t.publish(ctx, in, "long-"+w.Instance); err != nil {
				return err
			}
			backoff.Sleep(ctx, w.LongTx)
			return t.publish(ctx, in, w.key(r))
		})
	}
}

func (w *writer) key(r *rand.Rand) string { return fmt.Sprintf("key-%05d", r.IntN(w.Keys)) }

// Pace of what is rare.
const (
	largeEvery = 8 * time.Second
	slowEvery  = time.Second
)

// A pace says when it is time again for something; never if every is 0.
type pace struct {
	every time.Duration

	mu   sync.Mutex
	last time.Time
}

func (p *pace) due() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.every == 0 || time.Since(p.last) < p.every {
		return false
	}
	p.last = time.Now()
	return true
}

// keys returns the key or two of a transaction: of a path for one in four.
func (w *writer) keys(r *rand.Rand) []string {
	one := func() string { return w.key(r) }
	if len(w.Paths) > 0 && r.IntN(4) == 0 {
		name := w.Paths[w.turn.Add(1)%uint64(len(w.Paths))] // in turn, so that a short run has some on each
		if name == slow && w.slow.due() {
			return []string{slowKey}
		}
		one = func() string { return keyOf(name, 1+r.IntN(keysPerPath-1)) }
	}
	keys := []string{one()}
	if r.IntN(4) == 0 {
		keys = append(keys, one())
	}
	slices.Sort(keys) // all lock in one order
	return slices.Compact(keys)
}

// A transaction is one attempt, and what it is to be like.
type transaction struct {
	w   *writer
	r   *rand.Rand
	id  string
	end error // what it is to end with
	now bool  // messages are written at once, not at the commit

	ids   int // handed out
	count int // of messages that are committed if it is
}

// run runs it and writes down what it was told.
func (t *transaction) run(ctx context.Context, f func(context.Context, work) error) Result {
	// What has begun when the writers are to end is finished.
	err := t.w.do(context.WithoutCancel(ctx), f)
	result := Failed
	switch {
	case err == nil && t.end == nil:
		result = Committed
	case errors.Is(err, dovetail.ErrUnknownOutcome):
		result = Unknown
	case errors.Is(err, errPlanned):
		result = RolledBack
	}
	t.w.told.write(Outcome{t.id, result, t.count})
	return result
}

// short publishes a few events of a key or two, with parts that are undone or
// kept.
func (t *transaction) short(ctx context.Context, in work) error {
	for _, key := range t.w.keys(t.r) {
		for range 1 + t.r.IntN(3) {
			if err := t.publish(ctx, in, key); err != nil {
				return err
			}
		}
		if t.r.IntN(4) == 0 {
			if err := t.part(ctx, in, key); err != nil {
				return err
			}
		}
	}
	return t.end
}

// part publishes in a part of the transaction, which is undone or not.
func (t *transaction) part(ctx context.Context, in work, key string) error {
	before, undo := t.count, t.r.IntN(2) == 0
	errUndo := errors.New("undo this part")
	err := in.part(ctx, func(ctx context.Context, in work) error {
		if err := t.publish(ctx, in, key); err != nil || !undo {
			return err
		}
		return errUndo
	})
	if undo && err == errUndo {
		t.count = before
		return nil
	}
	if undo && err == nil {
		return errors.New("a part of a transaction that was to be undone was not")
	}
	return err
}

// publish takes the key's next number and publishes an event with it.
func (t *transaction) publish(ctx context.Context, in work, key string) error {
	name := PathOf(key)
	n, err := in.next(ctx, name, key)
	if err != nil {
		return err
	}
	note := Note{Key: key, N: n, Text: t.text()}
	event, id := t.w.events[name][0], IDOf(t.id, t.ids)
	if p := pathOf(name); p != nil && p.dress != nil {
		i, mark := p.dress(t, &note)
		event, id = t.w.events[name][i], id+mark
	}
	note.Sum = note.Check()
	t.ids++
	if err := in.wrote(ctx, Sent{ID: id, Tx: t.id, Key: key, N: n, Sum: note.Sum, At: time.Now()}); err != nil {
		return err
	}
	out := in.out
	if t.now {
		out = in.now
	}
	if err := event.Publish(ctx, out, note, dovetail.ID(id)); err != nil {
		return err
	}
	t.count++
	return nil
}

// text is mostly short, seldom long, and never quite the same.
func (t *transaction) text() string {
	piece := fmt.Sprintf("%x é 数 \"\\\n\t\u2028 ", t.r.Uint64())
	n := 1 + t.r.IntN(8)
	if t.r.IntN(200) == 0 {
		n = 1000
	}
	return strings.Repeat(piece, n)
}
