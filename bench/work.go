package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A work is what one side does in one round.
type work struct {
	channel string        // a fresh name
	size    int           // bytes of a body
	count   int           // messages
	callers int           // how many send, or ask, at once, one message at a time; 0 for one that sends batches
	batch   int           // messages in a batch
	rate    int           // of the open loop, messages per second
	unkeyed bool          // ours has no keys, so that nothing is kept in order
	longTx  time.Duration // how long a transaction stays open beside; 0 for none
	tick    func(n int)
	profile string // where a processor profile of what is measured is written; empty for none
}

// A sample is what one side reached in one round.
type sample struct {
	count   int
	elapsed time.Duration
	latency *hdrhistogram.Histogram // nanoseconds; nil where none was measured
	allocs  float64                 // per message, in this process
	cpu     float64                 // nanoseconds per message, in this process, all threads together
	more    map[string]float64      // what only this path has: see Figures.More
}

func (s *sample) rate() float64 {
	if s.elapsed <= 0 {
		return 0
	}
	return float64(s.count) / s.elapsed.Seconds()
}

// A side does the work of a path. errors.ErrUnsupported says that it cannot.
type side interface {
	send(ctx context.Context, w work) (sample, error)    // count messages, confirmed
	receive(ctx context.Context, w work) (sample, error) // a backlog of count messages, handled and settled
	flow(ctx context.Context, w work) (sample, error)    // sending and handling at once, as fast as possible
	latency(ctx context.Context, w work) (sample, error) // scheduled → handled, at w.rate
	request(ctx context.Context, w work) (sample, error) // asked → answered
	close(ctx context.Context) error
}

// errAbsent is what a side answers that has nothing to compare with.
var errAbsent = errors.ErrUnsupported

// keys are what messages are keyed by, in turn, so that lanes are at work.
var keys = func() (k [64]string) {
	for i := range k {
		k[i] = "key-" + strconv.Itoa(100+i)
	}
	return k
}()

// stampAt is where a body holds its key's number and, from the next byte on,
// the nanoseconds of its schedule.
const (
	keyAt   = 0
	stampAt = 1
	minSize = 16
)

// bodies returns a ring of bodies, one for each key.
func bodies(size int) [][]byte {
	all := make([][]byte, len(keys))
	for i := range all {
		all[i] = make([]byte, max(size, minSize))
		all[i][keyAt] = byte(i)
	}
	return all
}

// stamped returns a new body with a schedule in it.
func stamped(size, n int, due int64) []byte {
	b := make([]byte, max(size, minSize))
	b[keyAt] = byte(n % len(keys))
	binary.BigEndian.PutUint64(b[stampAt:], uint64(due))
	return b
}

func stampOf(body []byte) int64 { return int64(binary.BigEndian.Uint64(body[stampAt:])) }

// measured runs do and returns its sample with what it cost this process for
// each message. Processor time says more than the clock where other programs
// share the machine.
func (w *work) measured(do func() (sample, error)) (s sample, err error) {
	runtime.GC()
	if w.profile != "" {
		f, err := os.Create(w.profile)
		if err != nil {
			return s, err
		}
		if err := pprof.StartCPUProfile(f); err != nil {
			return s, errors.Join(err, f.Close())
		}
		defer func() {
			pprof.StopCPUProfile()
			err = errors.Join(err, f.Close())
		}()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	used := processorTime()
	s, err = do()
	used = processorTime() - used
	runtime.ReadMemStats(&after)
	if s.count > 0 {
		s.cpu = float64(used) / float64(s.count)
		s.allocs = float64(after.Mallocs-before.Mallocs) / float64(s.count)
	}
	return s, err
}

// An arrival counts what handlers were given and knows when the first and the
// last came.
type arrival struct {
	want  int64
	n     atomic.Int64
	first atomic.Int64 // Unix nanoseconds
	last  atomic.Int64
	all   chan struct{}
	tick  func(int)
}

func newArrival(w work) *arrival {
	return &arrival{want: int64(w.count), all: make(chan struct{}), tick: w.tick}
}

// add counts one message.
func (a *arrival) add() {
	n := a.n.Add(1)
	if n == 1 {
		a.first.Store(time.Now().UnixNano())
	}
	if n&255 == 0 {
		a.tick(256)
	}
	if n == a.want {
		a.last.Store(time.Now().UnixNano())
		close(a.all)
	}
}

// wait waits for the last message.
func (a *arrival) wait(ctx context.Context) error {
	select {
	case <-a.all:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// between is the sample from the first message to the last.
func (a *arrival) between() sample {
	return sample{count: int(a.want) - 1, elapsed: time.Duration(a.last.Load() - a.first.Load())}
}
