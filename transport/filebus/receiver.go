package filebus

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A receiver is one member of a group. It owns partitions, reads the log once
// for all of them, and keeps a cursor for each.
type receiver struct {
	c       *Conn
	ch      *channel
	window  int
	bytes   int // WindowBytes; 0 for no bound
	group   group
	cursors *os.File
	owners  []*os.File // one for each partition, locked or not
	member  *os.File   // locked while we are a member
	markF   *os.File   // of our own, so that removing the channel leaves it readable

	done    chan struct{} // closed with the receiver
	wake    chan struct{} // something has changed for Receive
	revoked chan []int
	wg      sync.WaitGroup

	closeOnce sync.Once
	closeErr  error

	mu      sync.Mutex // guards what follows and is held while files are read
	closed  bool
	err     error // what the balancing met, for the next Receive
	marks   *markReader
	rd      reader
	parts   []*part // by partition; nil for those of others
	inHand  int
	size    int // of what is in hand, in bytes
	retries retries
	again   reader // for messages handed out again
	scratch scratch
}

var (
	_ driver.Receiver   = (*receiver)(nil)
	_ driver.Revoker    = (*receiver)(nil)
	_ driver.Backlogger = (*receiver)(nil)
)

// OpenReceiver joins a group that was provisioned, or makes the group of a
// broadcast instance, or finds it where Subscription.Resume is set. It takes what partitions are free and is due; more come
// as other receivers hand them over.
func (c *Conn) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	if err := c.begin(); err != nil {
		return nil, err
	}
	defer c.ops.Done()
	r, err := c.openReceiver(ctx, s)
	if err != nil {
		return nil, fmt.Errorf("receiver of %s for channel %s: %w", s.Group, s.Channel.Name, explain(err))
	}
	return r, nil
}

func (c *Conn) openReceiver(ctx context.Context, s driver.Subscription) (*receiver, error) {
	ch, err := c.channel(ctx, s.Channel.Name)
	if err != nil {
		return nil, err
	}
	if ch.gone() {
		c.forget(ch)
		if ch, err = c.channel(ctx, s.Channel.Name); err != nil {
			return nil, err
		}
	}
	r := &receiver{
		c: c, ch: ch, window: max(1, s.Window), bytes: s.WindowBytes, group: group{dir: filepath.Join(ch.dir, "groups", groupDirName(s))},
		done: make(chan struct{}), wake: make(chan struct{}, 1), revoked: make(chan []int, 1), parts: make([]*part, ch.meta.Partitions),
	}
	if s.Broadcast {
		if err := driver.ValidName(s.Group); err != nil {
			return nil, fmt.Errorf("group %w", err)
		}
		if err := driver.ValidName(s.Instance); err != nil {
			return nil, fmt.Errorf("a broadcast subscription needs Instance as a name of its own: %w", err)
		}
		err = c.locked(ctx, func() error {
			_, err := os.Stat(filepath.Join(r.group.dir, "group.json"))
			if err == nil {
				if alive, err := anyMember(r.group.dir); err != nil || alive {
					return errors.Join(err, fmt.Errorf("%w: instance %s is subscribed already", driver.ErrConflict, s.Instance))
				}
				if s.Resume {
					return r.join()
				}
				if err := c.discard(r.group.dir); err != nil {
					return err
				}
			} else if errors.Is(err, fs.ErrNotExist) && s.Resume {
				return fmt.Errorf("%w: its group was removed, or expired %v after its last receiver: open it without Resume to go on from now",
					driver.ErrPositionLost, c.opts.Expire)
			}
			return ch.makeGroup(ctx, s, func(group) error { return r.join() })
		})
	} else {
		if _, err = os.Stat(filepath.Join(r.group.dir, "group.json")); errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("group %w: provision it first", driver.ErrNotFound)
		}
		if err == nil {
			err = r.join()
		}
	}
	if err == nil {
		err = r.openFiles()
	}
	if err != nil {
		return nil, errors.Join(err, r.closeFiles())
	}
	r.marks = newMarkReader(r.markF, ch.meta.Partitions)
	r.rd.w, r.again.w = ch.log, ch.log
	if _, err := r.rebalance(); err != nil {
		return nil, errors.Join(err, r.closeFiles())
	}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, errors.Join(driver.ErrClosed, r.closeFiles())
	}
	c.receivers[r] = struct{}{}
	c.mu.Unlock()
	// Not before: who only sends is not woken by what it wrote itself.
	c.watch.add(r.markF.Name(), &ch.log.appends)
	c.members.notify()
	r.wg.Go(r.balance)
	return r, nil
}

func (r *receiver) openFiles() error {
	if err := readJSON(filepath.Join(r.group.dir, "group.json"), &r.group.meta); err != nil {
		return err
	}
	var err error
	if r.cursors, err = os.OpenFile(r.group.cursors(), os.O_RDWR, 0); err != nil {
		return err
	}
	if r.markF, err = os.OpenFile(r.ch.log.file.Name(), os.O_RDWR, 0); err != nil {
		return err
	}
	for p := range r.parts {
		f, err := openFile(filepath.Join(r.group.dir, "owners", fmt.Sprintf("%03d", p)), os.O_RDWR|os.O_CREATE)
		if err != nil {
			return err
		}
		r.owners = append(r.owners, f)
	}
	return nil
}

// closeFiles closes everything, which gives back every lock.
func (r *receiver) closeFiles() error {
	errs := []error{r.rd.close(), r.again.close()}
	for _, f := range append(r.owners, r.cursors, r.markF, r.member) {
		if f != nil {
			errs = append(errs, f.Close())
		}
	}
	return errors.Join(errs...)
}

// Receive waits for messages, as driver.Receiver says.
func (r *receiver) Receive(ctx context.Context, limit int) ([]*driver.Delivery, error) {
	pause := time.Duration(0)
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		appended := r.ch.log.appends.wait()
		ds, due, err := r.take(max(1, limit))
		if err != nil {
			return nil, fmt.Errorf("receive from channel %s: %w", r.ch.meta.Name, explain(err))
		}
		if len(ds) > 0 {
			return ds, nil
		}
		pause = r.pause(pause)
		wait := pause
		if !due.IsZero() {
			wait = min(wait, time.Until(due))
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-r.done:
		case <-timer.C:
		case <-appended:
			pause = 0
		case <-r.wake:
			pause = 0
		}
		timer.Stop()
	}
}

// pause is how long to wait before looking again, given the pause before. Where
// the kernel tells what others write, looking is but a net below that.
func (r *receiver) pause(before time.Duration) time.Duration {
	if r.c.watch.works(&r.ch.log.appends) {
		return 250 * time.Millisecond
	}
	return min(25*time.Millisecond, max(time.Millisecond, before*5/4))
}

// take returns what there is, and when the next retry is due.
func (r *receiver) take(limit int) (ds []*driver.Delivery, due time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, due, driver.ErrClosed
	}
	if r.err != nil {
		err, r.err = r.err, nil
		return nil, due, err
	}
	n := min(limit, r.window-r.inHand)
	if n > 0 {
		if ds, err = r.takeRetries(n); err == nil && len(ds) < n {
			ds, err = r.fetch(ds, n)
		}
		if err == nil && len(ds) > 0 {
			// Written before anybody sees them: a successor counts on.
			err = r.persist()
		}
		if err != nil {
			r.giveBack(ds)
			return nil, due, err
		}
		if it := r.retries.top(); it != nil {
			due = it.due
		}
	}
	return ds, due, nil
}

// giveBack makes deliveries that could not be returned due again.
func (r *receiver) giveBack(ds []*driver.Delivery) {
	for _, d := range ds {
		it := d.Receipt.(*item)
		it.attempts--
		r.retry(it, time.Time{})
	}
}

// handed notes that an item is with the core.
func (r *receiver) handed(it *item) {
	it.state = inHand
	it.attempts++
	it.p.inHand++
	it.p.size += it.size
	it.p.dirty = true
	r.inHand++
	r.size += it.size
}

// unhand notes that it is not any more.
func (r *receiver) unhand(it *item) {
	it.p.inHand--
	it.p.size -= it.size
	r.inHand--
	r.size -= it.size
}

// fits reports whether so many bytes more may be handed out.
func (r *receiver) fits(size int) bool {
	return r.bytes == 0 || r.inHand == 0 || r.size+size <= r.bytes
}

// retry notes that an item is to be handed out again.
func (r *receiver) retry(it *item, due time.Time) {
	it.state, it.due = waiting, due
	r.unhand(it)
	heap.Push(&r.retries, it)
}

// persist writes the cursors that have changed.
func (r *receiver) persist() error {
	for _, p := range r.parts {
		if p != nil && p.dirty {
			if err := p.persist(r.cursors, &r.scratch); err != nil {
				return err
			}
		}
	}
	return nil
}

// Settle says what became of deliveries, as driver.Receiver says. It returns
// once the cursors are written, which outlives a kill of this process; after a
// loss of power messages may come again. What this receiver has handed over, or
// never had, is named in a *driver.StaleError.
func (r *receiver) Settle(ctx context.Context, settlements []driver.Settlement) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return fmt.Errorf("settle: %w", driver.ErrClosed)
	}
	now := time.Now()
	var stale driver.StaleError
	for i, s := range settlements {
		if s.Delivery == nil {
			continue
		}
		it, ok := s.Delivery.Receipt.(*item)
		if ok && it.state == settled {
			if it.p.lost && it.p.dirty { // before that was written down, and comes again
				stale.Indexes = append(stale.Indexes, i)
			}
			continue
		}
		if !ok || it.p.lost || it.p.id >= len(r.parts) || r.parts[it.p.id] != it.p {
			stale.Indexes = append(stale.Indexes, i) // not ours, or not any more
			continue
		}
		if it.state != inHand {
			continue // it waits for its retry
		}
		if s.Outcome == driver.Retry {
			r.retry(it, now.Add(s.After))
			continue
		}
		r.unhand(it)
		it.p.settle(it)
	}
	err := r.persist()
	for _, p := range r.parts {
		if p == nil {
			continue
		}
		if p.stalled && !p.revoking && p.unsettled() <= maxOpen/2 {
			p.stalled, p.fresh, p.from = false, true, p.next
		}
		if p.revoking && p.inHand == 0 {
			err = errors.Join(err, r.release(p))
		}
	}
	r.signal()
	if err != nil {
		return fmt.Errorf("settle on channel %s: %w", r.ch.meta.Name, explain(err))
	}
	if len(stale.Indexes) > 0 {
		return &stale
	}
	return nil
}

func (r *receiver) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Widen raises the window, as driver.Widener has it.
func (r *receiver) Widen(aside []*driver.Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.window += len(aside)
	for _, d := range aside {
		if it, ok := d.Receipt.(*item); ok && r.bytes > 0 {
			r.bytes += it.size
		}
	}
	r.signal()
}

// Backlog returns how many messages wait for the group.
func (r *receiver) Backlog(ctx context.Context) (int64, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, fmt.Errorf("backlog: %w", driver.ErrClosed)
	}
	m, err := r.marks.read()
	if err != nil {
		return 0, err
	}
	backlog, _, err := r.ch.waiting(r.group, m, func(p int) (cursor, int, bool) {
		own := r.parts[p]
		if own == nil {
			return cursor{}, 0, false
		}
		return cursor{taken: own.taken, open: make([]opened, own.unsettled())}, own.inHand, true
	})
	return backlog, err
}

// Close persists the cursors and gives the partitions back.
func (r *receiver) Close(ctx context.Context) error { return r.shut(false) }

// shut is Close; a crash leaves everything to the kernel.
func (r *receiver) shut(crash bool) error {
	r.closeOnce.Do(func() {
		r.mu.Lock()
		r.closed = true
		close(r.done)
		close(r.revoked)
		r.mu.Unlock()
		r.wg.Wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		var errs []error
		if !crash {
			r.catchUp()
			for _, p := range r.parts {
				if p != nil && (p.dirty || p.next.seq > p.written) {
					errs = append(errs, p.persist(r.cursors, &r.scratch))
				}
			}
		}
		for _, p := range r.parts {
			if p != nil {
				p.lost = true
			}
		}
		if !crash {
			errs = append(errs, r.leave())
		}
		errs = append(errs, r.closeFiles())
		r.c.mu.Lock()
		delete(r.c.receivers, r)
		r.c.mu.Unlock()
		r.c.members.notify()
		r.closeErr = explain(errors.Join(errs...))
	})
	return r.closeErr
}
