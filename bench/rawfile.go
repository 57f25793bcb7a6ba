package bench

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// rawFile appends to a file and reads it again. What is confirmed was written
// with fdatasync; those who wait for one at the same time share it.
type rawFile struct{ dir string }

func (r *rawFile) close(context.Context) error { return os.RemoveAll(r.dir) }

// A journal is a file of length-prefixed records.
type journal struct {
	f *os.File

	mu      sync.Mutex
	pending []byte
	spare   []byte // to be the next pending
	waiting *flush // of pending
	busy    bool
	free    sync.Cond
}

type flush struct {
	done chan struct{}
	err  error
}

func (r *rawFile) open(w work) (*journal, func() error, error) {
	f, err := os.Create(filepath.Join(r.dir, w.channel))
	if err != nil {
		return nil, nil, err
	}
	j := &journal{f: f, waiting: &flush{done: make(chan struct{})}}
	j.free.L = &j.mu
	return j, func() error { return errors.Join(f.Close(), os.Remove(f.Name())) }, nil
}

func appendRecord(dst, body []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(body)))
	return append(dst, body...)
}

// append adds records and returns once they are on the disk.
func (j *journal) append(bodies ...[]byte) error {
	j.mu.Lock()
	for _, b := range bodies {
		j.pending = appendRecord(j.pending, b)
	}
	mine := j.waiting
	for j.busy && !mine.over() {
		j.free.Wait()
	}
	if mine.over() {
		j.mu.Unlock()
		return mine.err
	}
	// This caller writes for all who have come.
	buf := j.pending
	j.pending, j.waiting, j.busy = j.spare[:0], &flush{done: make(chan struct{})}, true
	j.mu.Unlock()
	_, err := j.f.Write(buf)
	if err == nil {
		err = datasync(j.f)
	}
	mine.err = err
	close(mine.done)
	j.mu.Lock()
	j.busy, j.spare = false, buf
	j.free.Broadcast()
	j.mu.Unlock()
	return err
}

func (f *flush) over() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

func (r *rawFile) send(ctx context.Context, w work) (s sample, err error) {
	j, remove, err := r.open(w)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	return w.measured(func() (sample, error) { return fill(ctx, j, w) })
}

func fill(ctx context.Context, j *journal, w work) (sample, error) {
	ring := bodies(w.size)
	if w.callers > 0 {
		return timed(ctx, w, func(_ context.Context, n int) error { return j.append(ring[n%len(ring)]) })
	}
	begin := time.Now()
	batch := make([][]byte, 0, w.batch)
	for n := 0; n < w.count && ctx.Err() == nil; {
		batch = batch[:0]
		for ; n < w.count && len(batch) < w.batch; n++ {
			batch = append(batch, ring[n%len(ring)])
		}
		if err := j.append(batch...); err != nil {
			return sample{}, err
		}
		w.tick(len(batch))
	}
	return sample{count: w.count, elapsed: time.Since(begin)}, ctx.Err()
}

// receive reads the records and writes how far it is after each batch, unsynced
// as the cursors of filebus are: what a loss of power takes of it comes again.
func (r *rawFile) receive(ctx context.Context, w work) (s sample, err error) {
	j, remove, err := r.open(w)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	filling := w
	filling.callers, filling.batch, filling.tick = 0, 1000, func(int) {}
	if _, err := fill(ctx, j, filling); err != nil {
		return s, err
	}
	if _, err := j.f.Seek(0, io.SeekStart); err != nil {
		return s, err
	}
	mark, err := os.Create(filepath.Join(r.dir, w.channel+".mark"))
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, mark.Close(), os.Remove(mark.Name())) }()
	a := newArrival(w)
	return w.measured(func() (sample, error) {
		in := bufio.NewReaderSize(j.f, 1<<20)
		var size, at [8]byte
		for n := 1; n <= w.count; n++ {
			if _, err := io.ReadFull(in, size[:4]); err != nil {
				return sample{}, err
			}
			body := make([]byte, binary.LittleEndian.Uint32(size[:4]))
			if _, err := io.ReadFull(in, body); err != nil {
				return sample{}, err
			}
			a.add()
			if n%settleBatch == 0 || n == w.count {
				binary.LittleEndian.PutUint64(at[:], uint64(n))
				if _, err := mark.WriteAt(at[:], 0); err != nil {
					return sample{}, err
				}
			}
		}
		return a.between(), nil
	})
}

// settleBatch is how many messages share a mark.
const settleBatch = 256

// flow and latency: what was appended and synced is handed on in memory, which
// is the least that a reader in the same process can wait for.
func (r *rawFile) flow(ctx context.Context, w work) (s sample, err error) {
	j, remove, err := r.open(w)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	return w.measured(func() (sample, error) {
		c := make(chan []byte, memoryBuffer)
		a := newArrival(w)
		done := sink(c, func([]byte) { a.add() })
		ring := bodies(w.size)
		begin := time.Now()
		batch := make([][]byte, 0, w.batch)
		var err error
		for n := 0; n < w.count && err == nil; {
			batch = batch[:0]
			for ; n < w.count && len(batch) < w.batch; n++ {
				batch = append(batch, ring[n%len(ring)])
			}
			err = j.append(batch...)
			for _, b := range batch {
				c <- b
			}
		}
		close(c)
		<-done
		return sample{count: w.count, elapsed: time.Since(begin)}, err
	})
}

func (r *rawFile) latency(ctx context.Context, w work) (s sample, err error) {
	j, remove, err := r.open(w)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, remove()) }()
	return w.measured(func() (sample, error) {
		c := make(chan []byte, memoryBuffer)
		watch := newStopwatch(w)
		done := sink(c, watch.see)
		err := openLoop(ctx, w, func(_ context.Context, body []byte) error {
			if err := j.append(body); err != nil {
				return err
			}
			c <- body
			return nil
		})
		close(c)
		<-done
		return watch.sample(), err
	})
}

// request has no raw form over a file.
func (r *rawFile) request(context.Context, work) (sample, error) { return sample{}, errAbsent }
