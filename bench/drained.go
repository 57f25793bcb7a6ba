package bench

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// drained measures from the start of a relay until count says that all is
// published, and how much memory that takes.
func drained(ctx context.Context, w work, start func() (stop func() error, err error), count func(context.Context) (int, error)) (s sample, err error) {
	runtime.GC()
	debug.FreeOSMemory()
	resetPeakMemory()
	heap := watchHeap()
	s, err = w.measured(func() (s sample, err error) {
		begin := time.Now()
		stop, err := start()
		if err != nil {
			return s, err
		}
		err = reached(ctx, w, count)
		s = sample{count: w.count, elapsed: time.Since(begin)}
		s.more = map[string]float64{"peak_rss_mib": peakMemory() / (1 << 20)}
		return s, errors.Join(err, stop())
	})
	if most := heap(); s.more != nil {
		s.more["peak_heap_mib"] = most / (1 << 20)
	}
	return s, err
}

// watchHeap looks at the heap now and then; what it returns ends that and
// returns the most it saw, in bytes.
func watchHeap() func() float64 {
	over, most := make(chan struct{}), make(chan float64)
	go func() {
		look := time.NewTicker(100 * time.Millisecond)
		defer look.Stop()
		highest := uint64(0)
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			highest = max(highest, m.HeapAlloc)
			select {
			case <-look.C:
			case <-over:
				most <- float64(highest)
				return
			}
		}
	}()
	return func() float64 { close(over); return <-most }
}

// inStream is how many messages a round's stream has.
func inStream(ctx context.Context, js jetstream.JetStream, w work) (int, error) {
	s, err := js.Stream(ctx, streamOf(w))
	if err != nil {
		return 0, err
	}
	return int(s.CachedInfo().State.Msgs), nil
}
