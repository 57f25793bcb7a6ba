package shop

import (
	"context"
	"io"
	"sync/atomic"
	"time"
)

// Progress is how far a replay is.
type Progress struct {
	Read, Size int64 // bytes of the file; Size is 0 if unknown
	Lines      int
	Completed  int
	Refused    int
	Cancelled  int
	InFlight   int
	Kills      int
	Settling   bool // all is answered, and what follows is being finished
	Elapsed    time.Duration
}

// counter counts what is read.
type counter struct {
	r io.Reader
	n atomic.Int64
}

// Read reads and counts.
func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n.Add(int64(n))
	return n, err
}

// read is called for each invoice that was read.
func (r *replay) read() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines.Read, r.lines.Unusable = r.in.Lines(), r.in.Unusable()
}

// tell tells the progress until ctx ends, and then once more.
func (r *replay) tell(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		r.cfg.Progress(r.progress(ctx))
		select {
		case <-tick.C:
		case <-ctx.Done():
			r.cfg.Progress(r.progress(ctx))
			return
		}
	}
}

func (r *replay) progress(ctx context.Context) Progress {
	_, kills := r.fleet.counts(ctx)
	p := Progress{Read: r.size.n.Load(), Size: r.cfg.Orders.Size, Kills: kills, Elapsed: time.Since(r.started)}
	r.mu.Lock()
	p.Lines, p.Settling = r.lines.Read, r.settling
	r.mu.Unlock()
	r.front.mu.Lock()
	p.InFlight = r.front.inFlight
	r.front.mu.Unlock()
	l := r.want
	l.mu.Lock()
	defer l.mu.Unlock()
	p.Completed, p.Refused, p.Cancelled = l.completed, l.refused+l.notCancelled, l.cancelled
	return p
}
