package filebus

import (
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

// lockTimeout is how long an appender waits for the others. They hold the lock
// for one write and one fsync; only a stopped process holds it longer.
const lockTimeout = 10 * time.Second

// step is where tests kill the process.
var step = func(name string) {}

// A wal is one append-only log in segments, appended to by many processes.
//
// Lock order: the provision lock, then the log's; the log's own mutexes come
// after both.
type wal struct {
	dir      string
	parts    int
	sync     bool
	flush    func(*os.File) error // syncData
	segBytes int64
	file     *os.File // the mark, and the append lock
	appends  notifier // notified when records were appended

	// highest returns the position that a cursor has reached, so that after a
	// loss of power no sequence number is given twice.
	highest func() (next uint64, counts []uint64, err error)
	unread  func() (bool, error) // whether no cursor points into the log; or nil for never
	rolled  func()               // called when a segment was begun, without the lock; or nil

	sem chan struct{} // held together with the append lock; guards what follows
	*markReader
	verified bool // the mark is of this start of the machine
	suspect  bool // an fsync failed: what the segment's end holds is not known
	seg      *os.File
	segBase  uint64
	scratch  []byte
	gather   []byte

	mu      sync.Mutex
	queue   []*appendRequest
	running bool
	closed  bool
	wg      sync.WaitGroup
}

// openLog opens the log in dir, which has to exist, and checks its end if this
// is its first use since the machine was started.
func openLog(ctx context.Context, dir string, parts int, opts *Options, durable bool, highest func() (uint64, []uint64, error)) (*wal, error) {
	f, err := openFile(filepath.Join(dir, "mark"), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, err
	}
	w := &wal{
		dir: dir, parts: parts, sync: durable && opts.Sync == SyncAlways, segBytes: opts.SegmentBytes, file: f, flush: syncData,
		highest: highest, sem: make(chan struct{}, 1), markReader: newMarkReader(f, parts), scratch: make([]byte, markSize(parts)),
	}
	if err = w.acquire(ctx); err == nil {
		err = w.release()
	}
	if err != nil {
		return nil, errors.Join(err, w.close(ctx))
	}
	return w, nil
}

// acquire takes the append lock and brings w.mark up to date.
func (w *wal) acquire(ctx context.Context) error {
	timer := time.NewTimer(lockTimeout)
	defer timer.Stop()
	select {
	case w.sem <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return w.busy()
	}
	ok, err := tryLock(w.file)
	if err == nil && !ok {
		if err := w.lineUp(ctx, timer.C); err != nil {
			return err
		}
	}
	if err == nil {
		if err = w.refresh(); err != nil {
			unlock(w.file)
		}
	}
	if err != nil {
		<-w.sem
	}
	return err
}

// lineUp waits for the append lock, which another process has. The kernel
// serves those who wait in order; trying again and again would lose to a busy
// neighbour. The wait cannot be interrupted: given up, it goes on behind our
// back and keeps sem until it has ended.
func (w *wal) lineUp(ctx context.Context, timeout <-chan time.Time) error {
	result, abandon := make(chan error), make(chan struct{})
	w.wg.Go(func() {
		err := waitLock(w.file)
		select {
		case result <- err:
		case <-abandon:
			if err == nil {
				unlock(w.file)
			}
			<-w.sem
		}
	})
	var err error
	select {
	case err = <-result:
		if err != nil {
			<-w.sem
		}
		return err
	case <-ctx.Done():
		err = ctx.Err()
	case <-timeout:
		err = w.busy()
	}
	close(abandon)
	return err
}

func (w *wal) busy() error {
	return fmt.Errorf("%w: another process has held the lock %s for %v: look whether it is stopped", driver.ErrRetryable, w.file.Name(), lockTimeout)
}

func (w *wal) release() error {
	err := unlock(w.file)
	<-w.sem
	return err
}

// refresh reads the mark, repairs the end of the log where a process died while
// it appended, and opens the segment that is appended to.
func (w *wal) refresh() error {
	_, err := w.file.ReadAt(w.buf, 0)
	if unlinked(w.file) || err == nil && string(w.buf[:len(deadMark)]) == deadMark {
		return errGone
	}
	if err != nil || !w.mark.decode(w.buf) || !w.verified && (w.mark.boot == 0 || w.mark.boot != boot()) {
		return w.recover(err == nil && w.mark.decode(w.buf))
	}
	if err := w.openActive(); err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errSegment) {
			return w.recover(true)
		}
		return err
	}
	st, err := w.seg.Stat()
	if err != nil {
		return err
	}
	switch {
	case st.Size() < w.mark.end:
		return w.recover(true)
	case st.Size() > w.mark.end:
		// Whoever wrote this died or gave up before it was marked: nobody has
		// read it and nobody was told that it was sent.
		if err := w.seg.Truncate(w.mark.end); err != nil {
			return err
		}
	}
	w.verified = true
	if w.suspect {
		return w.roll(w.mark.next, w.mark.counts)
	}
	return nil
}

// openActive opens the segment that the mark names.
func (w *wal) openActive() error {
	if w.seg != nil && w.segBase == w.mark.base {
		return nil
	}
	f, _, err := openSegment(w.dir, w.mark.base, w.parts)
	if err != nil {
		return err
	}
	w.setActive(f, w.mark.base)
	return nil
}

func (w *wal) setActive(f *os.File, base uint64) {
	if w.seg != nil {
		w.seg.Close()
	}
	w.seg, w.segBase = f, base
}

// writeMark makes m the mark: from here on everybody may read what it covers.
func (w *wal) writeMark(m mark) error {
	m.boot = boot()
	m.encode(w.scratch)
	if _, err := w.file.WriteAt(w.scratch, 0); err != nil {
		return err
	}
	counts := append(w.mark.counts[:0], m.counts...)
	w.mark = m
	w.mark.counts = counts
	return nil
}

// die makes the log one that nobody appends to. The append lock is held.
func (w *wal) die() error {
	_, err := w.file.WriteAt([]byte(deadMark), 0)
	step("dead")
	return err
}

// dead reports whether the log was removed while it is open.
func (w *wal) dead() bool {
	b := make([]byte, len(deadMark))
	_, err := w.file.ReadAt(b, 0)
	return unlinked(w.file) || err == nil && string(b) == deadMark
}

// close waits for what is being appended and closes the files.
func (w *wal) close(ctx context.Context) error {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	done := make(chan struct{})
	go func() { // ends when the last wait for a lock does
		w.sem <- struct{}{}
		w.wg.Wait()
		close(done)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		return ctx.Err()
	}
	var err error
	if w.seg != nil {
		err = w.seg.Close()
	}
	return errors.Join(err, w.file.Close())
}
