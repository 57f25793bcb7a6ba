package verify

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver/backoff"
)

// fell is why a process does not come up, with the command that failed to bring a
// node back, if there was one.
func (r *run) fell() error {
	_, err := r.faults.nodes.report()
	return fmt.Errorf("verify: %w", errors.Join(r.fleet.err, err))
}

// settle is how long a run waits, when all was handled, for what should not
// come.
const settle = time.Second

// drain waits until every group has handled everything, or nothing has happened
// for too long.
func (r *run) drain(ctx context.Context) (complete bool, err error) {
	from := time.Now()
	defer func() { r.drained = time.Since(from) }()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	if r.letters != nil {
		r.letters.wholly.Store(true)
	}
	last, moved := Progress{}, time.Now()
	for {
		began := time.Now() // what a look says is no older
		p, ok := r.look(ctx)
		if ok && p.Handled >= p.Committed {
			p, ok = r.lookClosely(ctx)
		}
		if ok {
			r.measure(p)
		}
		switch {
		case ok && p.Handled >= p.Committed:
			backoff.Sleep(ctx, settle)
			return true, nil
		case ok && p != last:
			last, moved = p, time.Now()
		case began.Sub(moved) > r.Patience:
			return false, nil
		}
		shown := last
		shown.Phase, shown.Done, shown.Of = "draining", time.Since(moved), r.Patience
		r.Progress(shown)
		select {
		case <-r.fleet.failed:
			return false, r.fell()
		case <-tick.C:
		}
	}
}
