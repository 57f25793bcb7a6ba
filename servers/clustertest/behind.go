package clustertest

import (
	"context"
	"strings"
	"sync"
	"time"
)

// A hold is what a fault may ask of those who write and handle: to wait before a
// transaction, and to give it up soon. A nil one asks nothing.
type hold struct {
	mu    sync.Mutex
	held  int           // handlers that wait
	free  chan struct{} // closed when they may go on; nil while none has to wait
	limit time.Duration // of a transaction; 0 for none
}

// set has handlers wait until clear, and transactions end after limit.
func (h *hold) set(limit time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.free, h.held, h.limit = make(chan struct{}), 0, limit
}

// release has handlers go on.
func (h *hold) release() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.free != nil {
		close(h.free)
		h.free = nil
	}
}

// clear asks nothing any more.
func (h *hold) clear() {
	h.release()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.limit = 0
}

// waiting is how many handlers wait.
func (h *hold) waiting() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held
}

// wait waits until handlers may go on.
func (h *hold) wait(ctx context.Context) error {
	if h == nil {
		return nil
	}
	h.mu.Lock()
	free := h.free
	if free != nil {
		h.held++
	}
	h.mu.Unlock()
	if free == nil {
		return nil
	}
	select {
	case <-free:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// bound is the context of a transaction.
func (h *hold) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if h != nil {
		h.mu.Lock()
		limit := h.limit
		h.mu.Unlock()
		if limit > 0 {
			return context.WithTimeout(ctx, limit)
		}
	}
	return ctx, func() {}
}

// behind is a fault in which the primary shows what the standby has not got, and
// the standby is promoted. The standby is gone first; the clients of commits that
// wait for it give up, which has the server show them; then the primary is gone.
// Nobody watches meanwhile, since a primary must not go on alone here. Whoever
// takes what he sees for committed is wrong afterwards: about transactions whose
// outcome he looked into, or about messages that he handled.
func (p *pair) behind(ctx context.Context, _ Harness, _ Lengths, at *moments) error {
	primary, standby := p.roles()
	defer p.hold.clear()
	p.hold.set(time.Second)
	written, effects := 0, 0
	since := func() (err error) { written, effects, err = p.seen(ctx); return err }
	until := func(what string, is func(written, effects int) bool) error {
		return poll(ctx, what, func() bool {
			w, e, err := p.seen(ctx)
			return err == nil && is(w-written, e-effects)
		})
	}
	var back sync.WaitGroup
	defer back.Wait()
	return steps(
		since,
		// By then the writer's transaction is one with a limit.
		func() error {
			return until("messages wait for their handlers", func(w, _ int) bool { return w > 2 && p.hold.waiting() > 2 })
		},
		func() error { p.unwatch(); at.disturb(); return standby.Kill() },
		since,
		func() error { p.hold.release(); return nil },
		func() error {
			return until("the primary shows what the standby has not got", func(w, e int) bool { return w > 0 && e > 2 })
		},
		func() error { return rest(ctx, 3*time.Second) }, // in which those who are wrong act
		func() error { at.gone(); return primary.Kill() },
		// Without a primary it is not ready before it is promoted.
		func() error {
			back.Go(func() { _ = standby.Restart(ctx) })
			return poll(ctx, standby.Name()+" is promoted", func() bool { return p.c.Promote(ctx, standby) == nil })
		},
		func() error { p.hold.clear(); p.watch(ctx); err := p.leads(ctx, standby); at.back(); return err },
		func() error { return primary.Restart(ctx) },
		func() error { return p.whole(ctx) })
}

// counted counts the notes that a database shows as written, and those as handled.
func counted(all map[string]int) (written, effects int) {
	for key := range all {
		switch {
		case strings.HasPrefix(key, writtenKey):
			written++
		case strings.HasPrefix(key, effectKey):
			effects++
		}
	}
	return written, effects
}
