package outbox

import (
	"context"
	"time"

	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/dovetail-go/dovetail/internal/crash"
	"github.com/dovetail-go/dovetail/store"
)

// reader reads the outbox for a term, one page ahead of what is being sent.
type reader struct {
	after  store.Position  // of the last row read
	wake   <-chan struct{} // closed when something was written since the last read began
	dry    bool            // the last read came to the end
	pollAt time.Time       // when to read again although nothing woke us
	page   chan fetched    // the read under way, if there is one
	ready  *fetched        // what it found, if that was awaited elsewhere
	grown  int             // the window was doubled so often
}

type fetched struct {
	store.Page
	piggyback piggyback // what it was told to write down
	full      bool      // there may be more
	err       error
}

// wants reports whether a read may find something.
func (r *reader) wants(now time.Time) bool {
	if !r.dry || !now.Before(r.pollAt) {
		return true
	}
	select {
	case <-r.wake:
		return true
	default:
		return false
	}
}

// read reads the next page.
func (t *term[Tx]) read(ctx context.Context, after store.Position, a piggyback) fetched {
	max := store.Limit{Rows: t.opts.Batch, Bytes: t.opts.BatchBytes}
	page, err := t.db.Next(ctx, t.Term, after, a.to, max)
	if page.Advanced {
		crash.RelayAdvanced.Pass()
	}
	if len(page.Rows) > 0 {
		crash.RelayRead.Pass()
	}
	return fetched{page, a, len(page.Rows) == max.Rows || size(page.Rows) >= max.Bytes, err}
}

func size(rows []store.Row) (n int) {
	for _, r := range rows {
		n += len(r.Message.Body)
	}
	return n
}

type pageReader interface {
	read(ctx context.Context, after store.Position, a piggyback) fetched
	piggyback() piggyback
	listen() <-chan struct{}
}

func (t *term[Tx]) listen() <-chan struct{} { return t.db.Signal().Wait() }

// prefetch begins to read, if that may find something and no read is under way.
func (r *reader) prefetch(ctx context.Context, from pageReader) {
	if r.page != nil || r.ready != nil || !r.wants(time.Now()) {
		return
	}
	r.wake = from.listen()
	r.dry = false // until it is known
	page := make(chan fetched, 1)
	r.page = page
	after, a := r.after, from.piggyback()
	go func() { page <- from.read(ctx, after, a) }()
}

// take returns what was read: the page under way, or, if there is nothing else
// to do, one that is read now.
func (r *reader) take(ctx context.Context, from pageReader, busy bool) (f fetched, ok bool) {
	switch {
	case r.ready != nil:
		f, r.ready = *r.ready, nil
		return f, true
	case r.page != nil && busy:
		select {
		case f = <-r.page:
			r.page = nil
			return f, true
		default:
			return f, false
		}
	case r.page != nil:
		f = <-r.page
		r.page = nil
		return f, true
	case busy || !r.wants(time.Now()):
		return f, false
	}
	r.wake = from.listen()
	return from.read(ctx, r.after, from.piggyback()), true
}

// drain waits for the read under way.
func (r *reader) drain() {
	if r.page != nil {
		<-r.page
	}
	r.page, r.ready = nil, nil
}

// fill takes what was read into the window.
func (t *term[Tx]) fill(ctx context.Context) error {
	if t.full() {
		return nil
	}
	r := &t.reader
	f, ok := r.take(ctx, t, t.window.waiting > 0)
	if !ok {
		// Waiting messages may all be in back-off: then the next ones are
		// read meanwhile.
		r.prefetch(ctx, t)
		return nil
	}
	if f.err != nil {
		r.dry, r.pollAt = false, time.Time{}
		return f.err
	}
	r.dry = !f.full
	r.pollAt = time.Now().Add(backoff.Jitter(t.opts.Poll))
	if f.Advanced {
		t.piggybacked(f.piggyback)
	}
	if len(f.Rows) == 0 {
		return nil
	}
	blocked, err := t.blocked(ctx, f.Rows)
	if err != nil {
		r.dry = false
		return err
	}
	for i, row := range f.Rows {
		e := t.window.add(row, laneKey{row.Message.Channel, store.LaneOf(row.Message)})
		if blocked[i] != nil {
			// Earlier ones of its lane that wait for their next attempt must not
			// be passed.
			t.setAsideAll(e.lane, *blocked[i])
		}
	}
	r.after = f.Rows[len(f.Rows)-1].Position
	return nil
}

// blocked returns, for each row that must be held because its channel is down
// or earlier messages of its key are held, the lane to hold it in.
func (t *term[Tx]) blocked(ctx context.Context, rows []store.Row) ([]*store.Lane, error) {
	blocked := make([]*store.Lane, len(rows))
	var ask []store.Lane
	asked := map[laneKey]int{} // in ask
	at := map[int]int{}        // row → in ask: all of a lane get one answer, or the last would pass the first
	c := &t.channels
	c.mu.Lock()
	for i, r := range rows {
		ch := c.m[r.Message.Channel]
		if ch == nil || !ch.held && !ch.down {
			continue
		}
		lane := store.Lane{Channel: r.Message.Channel, Name: store.LaneOf(r.Message)}
		switch {
		case ch.down:
			lane.Error, lane.Retry = ch.err, ch.retry
			blocked[i] = &lane
		case c.pending[laneKey{lane.Channel, lane.Name}]:
			blocked[i] = &lane
		default: // also without a key: it may be held already, and edited since
			key := laneKey{lane.Channel, lane.Name}
			k, ok := asked[key]
			if !ok {
				k = len(ask)
				asked[key] = k
				ask = append(ask, lane)
			}
			at[i] = k
		}
	}
	c.mu.Unlock()
	if len(ask) == 0 {
		return blocked, nil
	}
	held, err := t.db.Blocked(ctx, t.Term, ask)
	if err != nil {
		return nil, err
	}
	for i, k := range at {
		if held[k] {
			blocked[i] = &ask[k]
		}
	}
	return blocked, nil
}
