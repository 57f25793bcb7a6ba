package filebus

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// An appendRequest is one caller's records for one log. Those that wait while
// an fsync is under way share the next one.
type appendRequest struct {
	buf     []byte        // records, not stamped yet
	at      []int         // where each begins in buf
	done    chan struct{} // closed once err and unknown say what became of it
	err     error
	unknown bool
	first   uint64 // sequence number of the first record
}

// maxGather bounds the copying of small requests into one write, in bytes.
const maxGather = 1 << 20

// submit hands a request over to be appended; the caller waits for r.done. If
// nobody else is appending and inline is set, it is appended by the caller
// itself: to hand a batch to a goroutine and be woken by it took 50 µs of the
// 700 that one of 500 messages takes. What can be waited for at length, a lock
// that another process holds, is left to the goroutine.
func (w *wal) submit(r *appendRequest, inline bool) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed { // the channel was, not the connection
		return errGone
	}
	r.done = make(chan struct{})
	if inline && !w.running && len(w.queue) == 0 {
		w.running = true
		w.mu.Unlock()
		taken, rolled := w.appendHere(r)
		w.mu.Lock()
		if !taken {
			w.queue = slices.Insert(w.queue, 0, r)
		}
		if w.closed {
			w.refuse()
			return nil
		}
		if rolled && w.rolled != nil {
			w.wg.Go(w.rolled)
		}
		if len(w.queue) > 0 {
			w.wg.Go(w.run)
		} else {
			w.running = false
		}
		return nil
	}
	w.queue = append(w.queue, r)
	if !w.running {
		w.running = true
		w.wg.Go(w.run)
	}
	return nil
}

// refuse ends what is queued for a channel that was removed.
func (w *wal) refuse() {
	fail(w.queue, errGone, false)
	for _, r := range w.queue {
		close(r.done)
	}
	w.queue, w.running = nil, false
}

// appendHere appends a request unless the lock is taken.
func (w *wal) appendHere(r *appendRequest) (taken, rolled bool) {
	select {
	case w.sem <- struct{}{}:
	default:
		return false, false
	}
	if ok, err := tryLock(w.file); err != nil || !ok {
		<-w.sem
		return false, false
	}
	if err := w.refresh(); err != nil {
		fail([]*appendRequest{r}, err, false)
	} else {
		rolled = w.commit([]*appendRequest{r})
	}
	w.release() // what it could complain about, closing the file makes good
	close(r.done)
	w.appends.notify()
	return true, rolled
}

// withdraw takes a request back if nobody has begun with it.
func (w *wal) withdraw(r *appendRequest) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, q := range w.queue {
		if q == r {
			w.queue = append(w.queue[:i], w.queue[i+1:]...)
			return true
		}
	}
	return false
}

// append appends one request and waits for it; used where the caller is
// already in the background.
func (w *wal) append(ctx context.Context, r *appendRequest) error {
	if err := w.submit(r, false); err != nil {
		return err
	}
	select {
	case <-r.done:
		return r.err
	case <-ctx.Done():
		if w.withdraw(r) {
			return ctx.Err()
		}
		<-r.done
		return r.err
	}
}

// run appends what is queued until nothing is.
func (w *wal) run() {
	var batch []*appendRequest
	for {
		w.mu.Lock()
		batch, w.queue = w.queue, batch[:0]
		if len(batch) == 0 {
			w.running = false
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()
		rolled := false
		if err := w.acquire(context.Background()); err != nil {
			fail(batch, err, false)
		} else {
			rolled = w.commit(batch)
			w.release()
			w.appends.notify()
		}
		for i, r := range batch {
			close(r.done)
			batch[i] = nil
		}
		if rolled && w.rolled != nil {
			w.wg.Go(w.rolled)
		}
	}
}

// commit appends a batch and reports whether that began another segment. The
// append lock is held.
func (w *wal) commit(batch []*appendRequest) (rolled bool) {
	step("locked")
	for len(batch) > 0 {
		if w.mark.end > segHeader && w.mark.end+int64(len(batch[0].buf)) > w.segBytes {
			if err := w.roll(w.mark.next, w.mark.counts); err != nil {
				fail(batch, err, false)
				break
			}
			rolled = true
		}
		n, size := 1, w.mark.end+int64(len(batch[0].buf))
		for ; n < len(batch) && size+int64(len(batch[n].buf)) <= w.segBytes; n++ {
			size += int64(len(batch[n].buf))
		}
		w.appendGroup(batch[:n])
		batch = batch[n:]
	}
	return rolled
}

// appendGroup writes requests behind the mark, syncs them and moves the mark.
func (w *wal) appendGroup(group []*appendRequest) {
	if w.suspect { // by the group before in the same batch
		if err := w.roll(w.mark.next, w.mark.counts); err != nil {
			fail(group, err, false)
			return
		}
	}
	next := w.mark.clone()
	for _, r := range group {
		r.first = next.next
		for _, at := range r.at {
			next.counts[stamp(r.buf[at:], next.next, w.parts)]++
			next.next++
		}
		next.end += int64(len(r.buf))
	}
	if err := w.write(group); err != nil {
		err = fmt.Errorf("write %s: %w", w.seg.Name(), err)
		// Nobody has read behind the mark: what was written can be taken back.
		if undo := w.seg.Truncate(w.mark.end); undo != nil {
			fail(group, errors.Join(err, undo), true)
			return
		}
		fail(group, err, false)
		return
	}
	step("written")
	if w.sync {
		if err := w.flush(w.seg); err != nil {
			w.suspect = true // the kernel reports it once and forgets the pages
			fail(group, err, true)
			return
		}
	}
	step("synced")
	if err := w.writeMark(next); err != nil {
		fail(group, err, true)
		return
	}
	step("marked")
}

func (w *wal) write(group []*appendRequest) error {
	off := w.mark.end
	if len(group) == 1 {
		_, err := w.seg.WriteAt(group[0].buf, off)
		return err
	}
	w.gather = w.gather[:0]
	for i, r := range group {
		w.gather = append(w.gather, r.buf...)
		if i == len(group)-1 || len(w.gather)+len(group[i+1].buf) > maxGather {
			if _, err := w.seg.WriteAt(w.gather, off); err != nil {
				return err
			}
			off += int64(len(w.gather))
			w.gather = w.gather[:0]
		}
	}
	if cap(w.gather) > 2*maxGather {
		w.gather = nil
	}
	return nil
}

func fail(group []*appendRequest, err error, unknown bool) {
	err = explain(err)
	for _, r := range group {
		r.err, r.unknown = err, unknown
	}
}
