package filebus

import (
	"container/heap"
	"context"
	"errors"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"sort"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// Messages that are not due wait in a log of their own beside the channel's.
// One process at a time, the owner of a lock, moves them when they are due: it
// appends them to the channel's log and then removes them here. Killed in
// between, its successor moves them again, under the same ids.

const (
	// ownLaterEvery is how often a process looks whether somebody has to move
	// messages of a channel that it uses.
	ownLaterEvery = 500 * time.Millisecond
	// maxLater bounds what is kept in memory of a channel's delayed messages:
	// of so many, those due first. 40 bytes each.
	maxLater = 100_000
	// moveBatch is how many are moved in one append.
	moveBatch = 500
)

// delayed is a channel's part in moving its delayed messages.
type delayed struct {
	mu   sync.Mutex
	log  *wal
	stop context.CancelFunc
	wg   sync.WaitGroup
}

func (ch *channel) laterDir() string { return filepath.Join(ch.dir, "later") }

// laterLog returns the log of messages that are not due, making it with the
// first one.
func (ch *channel) laterLog(ctx context.Context) (*wal, error) {
	d := &ch.delayed
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.log != nil {
		return d.log, nil
	}
	if err := os.Mkdir(ch.laterDir(), dirMode(ch.laterDir())); errors.Is(err, fs.ErrNotExist) {
		return nil, errGone
	} else if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, explain(err)
	}
	none := func() (uint64, []uint64, error) { return 0, make([]uint64, ch.meta.Partitions), nil }
	log, err := openLog(ctx, ch.laterDir(), ch.meta.Partitions, &ch.c.opts, !ch.meta.Transient, none)
	if err == nil {
		err = syncDir(ch.dir)
	}
	if err != nil {
		return nil, explain(err)
	}
	ch.c.watch.add(log.file.Name(), &log.appends)
	log.unread = func() (bool, error) { return true, nil }
	d.log = log
	return log, nil
}

// startDelayed begins to look after the channel's delayed messages.
func (ch *channel) startDelayed() {
	ctx, cancel := context.WithCancel(context.Background())
	ch.delayed.stop = cancel
	ch.delayed.wg.Go(func() {
		tick := time.NewTicker(ownLaterEvery)
		defer tick.Stop()
		for {
			if _, err := os.Stat(filepath.Join(ch.laterDir(), "mark")); err == nil {
				ch.moveAsOwner(ctx) // an error is tried again
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	})
}

func (ch *channel) stopDelayed() error {
	ch.delayed.stop()
	ch.delayed.wg.Wait()
	if log := ch.delayed.log; log != nil {
		ch.c.watch.remove(&log.appends)
		return log.close(context.Background())
	}
	return nil
}

// moveAsOwner moves messages until ctx ends, if no other process does.
func (ch *channel) moveAsOwner(ctx context.Context) error {
	f, err := openFile(filepath.Join(ch.laterDir(), "owner"), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return err
	}
	defer f.Close() // and with it the lock
	if ok, err := tryLock(f); !ok {
		return err
	}
	log, err := ch.laterLog(ctx)
	if err != nil {
		return err
	}
	mv := &mover{ch: ch, log: log, marks: newMarkReader(log.file, ch.meta.Partitions), rd: reader{w: log}, beyond: noTime}
	defer mv.rd.close()
	if _, err := mv.marks.read(); err != nil { // damaged, and nobody would hear of it: look for the end of the log
		if err := log.acquire(ctx); err != nil {
			return err
		}
		if err := log.release(); err != nil {
			return err
		}
	}
	return mv.run(ctx)
}

const noTime = math.MaxInt64

// A mover knows the delayed messages that are due first.
type mover struct {
	ch     *channel
	log    *wal
	marks  *markReader
	rd     reader
	dues   dues
	beyond int64 // when the first message is due that was left out of dues
}

type laterItem struct {
	due int64 // Unix nanoseconds
	pos position
}

type dues []laterItem

func (d dues) Len() int { return len(d) }
func (d dues) Less(i, j int) bool {
	return d[i].due < d[j].due || d[i].due == d[j].due && d[i].pos.seq < d[j].pos.seq
}
func (d dues) Swap(i, j int) { d[i], d[j] = d[j], d[i] }
func (d *dues) Push(x any)   { *d = append(*d, x.(laterItem)) }
func (d *dues) Pop() any {
	it := (*d)[len(*d)-1]
	*d = (*d)[:len(*d)-1]
	return it
}

func (mv *mover) run(ctx context.Context) error {
	for ctx.Err() == nil && !mv.log.dead() && !mv.ch.gone() {
		appended := mv.log.appends.wait()
		if err := mv.read(); err != nil {
			return err
		}
		moved, err := mv.move(ctx)
		if err != nil {
			return err
		}
		if moved {
			continue
		}
		wait := ownLaterEvery
		if !mv.ch.c.watch.works(&mv.log.appends) {
			wait = 25 * time.Millisecond
		}
		if len(mv.dues) > 0 {
			wait = min(wait, time.Until(time.Unix(0, mv.dues[0].due)))
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-appended:
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// read takes note of what was appended since, or of everything once what was
// left out is due.
func (mv *mover) read() error {
	m, err := mv.marks.read()
	if err != nil {
		return err
	}
	if mv.rd.f == nil || mv.beyond != noTime && (len(mv.dues) == 0 || mv.dues[0].due >= mv.beyond) {
		bases, err := segments(mv.log.dir)
		if err != nil || len(bases) == 0 {
			return err
		}
		if err := mv.rd.seek(position{seq: bases[0], base: noBase}, m); err != nil {
			return err
		}
		mv.dues, mv.beyond = mv.dues[:0], noTime
	}
	for {
		rec, err := mv.rd.next(m)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if rec.removed || rec.damage {
			continue
		}
		due := int64(0) // what cannot be read is moved at once, and found to be so by its receiver
		var msg driver.Message
		if rec.soundPayload(rec.payload) && decodeMessage(rec.payload, &msg) == nil {
			due = nanos(msg.Due)
		}
		if due >= mv.beyond {
			continue
		}
		heap.Push(&mv.dues, laterItem{due, position{seq: rec.seq, base: mv.rd.base, off: rec.off}})
		if len(mv.dues) >= 2*maxLater {
			sort.Sort(mv.dues) // a sorted slice is a heap
			mv.beyond = mv.dues[maxLater].due
			mv.dues = mv.dues[:maxLater]
		}
	}
}

// nanos is t in Unix nanoseconds, or the nearest that there is: from the year
// 2262 on they do not fit.
func nanos(t time.Time) int64 {
	switch s := t.Unix(); {
	case s >= math.MaxInt64/int64(time.Second):
		return noTime - 1
	case s < 0:
		return 0
	}
	return t.UnixNano()
}

// move moves one batch of what is due and reports whether there was any.
func (mv *mover) move(ctx context.Context) (bool, error) {
	now := time.Now().UnixNano()
	req := &appendRequest{}
	var at []position
	var src reader
	src.w = mv.log
	defer src.close()
	for len(mv.dues) > 0 && mv.dues[0].due <= now && len(at) < moveBatch && len(req.buf) < maxTaken {
		it := heap.Pop(&mv.dues).(laterItem)
		rec, err := readAt(&src, it.pos)
		if err != nil {
			return false, err
		}
		if rec.removed || rec.damage {
			continue
		}
		req.at = append(req.at, len(req.buf))
		req.buf = appendRaw(req.buf, rec)
		at = append(at, it.pos)
	}
	if len(at) == 0 {
		return false, nil
	}
	if err := mv.ch.log.append(ctx, req); err != nil {
		mv.rd.close() // read everything again
		return false, err
	}
	step("moved")
	return true, mv.log.removeAt(context.WithoutCancel(ctx), at)
}

// readAt reads one record.
func readAt(rd *reader, p position) (record, error) {
	if rd.f == nil || rd.base != p.base {
		if _, err := rd.enter(p.base); err != nil {
			return record{}, err
		}
	}
	st, err := rd.f.Stat()
	if err != nil {
		return record{}, err
	}
	rd.off, rd.seq, rd.limit, rd.buf = p.off, p.seq, st.Size(), rd.buf[:0]
	rec, err := rd.scanner.next()
	if err == io.EOF || err == io.ErrUnexpectedEOF { // emptied: it was removed
		return record{header: header{removed: true}}, nil
	}
	return rec, err
}
