package bench

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latencies are kept from a nanosecond to a minute, to three digits.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, int64(time.Minute), 3)
}

func record(h *hdrhistogram.Histogram, d time.Duration) {
	// Within the bounds it cannot fail.
	_ = h.RecordValue(int64(min(max(d, 1), time.Minute)))
}

// many has w.callers goroutines call one for the numbers below w.count, and
// returns how long it took.
func many(ctx context.Context, w work, one func(ctx context.Context, n int) error) (sample, error) {
	var (
		wg   sync.WaitGroup
		next atomic.Int64
		mu   sync.Mutex
		errs []error
	)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	begin := time.Now()
	for range max(1, w.callers) {
		wg.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= w.count || ctx.Err() != nil {
					return
				}
				if err := one(ctx, n); err != nil {
					mu.Lock()
					errs = append(errs, err)
					mu.Unlock()
					cancel()
					return
				}
				if n&63 == 63 {
					w.tick(64)
				}
			}
		})
	}
	wg.Wait()
	return sample{count: w.count, elapsed: time.Since(begin)}, errors.Join(errs...)
}

// timed is many with the latency of each call.
func timed(ctx context.Context, w work, one func(ctx context.Context, n int) error) (sample, error) {
	h := newHistogram()
	var mu sync.Mutex
	s, err := many(ctx, w, func(ctx context.Context, n int) error {
		begin := time.Now()
		if err := one(ctx, n); err != nil {
			return err
		}
		took := time.Since(begin)
		mu.Lock()
		record(h, took)
		mu.Unlock()
		return nil
	})
	s.latency = h
	return s, err
}

// openSenders is how many senders an open loop has: enough that one that is
// held up does not hold up the schedule.
const openSenders = 16

// openLoop calls send for w.count messages at w.rate, each with the time at
// which it was due. It does not wait for one before it begins the next, as long
// as openSenders are enough.
func openLoop(ctx context.Context, w work, send func(ctx context.Context, body []byte) error) error {
	type slot struct {
		n   int
		due int64
	}
	slots := make(chan slot, w.count)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	senders := work{callers: openSenders, count: w.count, tick: func(int) {}}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(slots)
		p := newPacer()
		defer p.stop()
		gap := time.Second / time.Duration(w.rate)
		begin := time.Now()
		for n := range w.count {
			due := begin.Add(time.Duration(n) * gap)
			for d := time.Until(due); d > 0 && ctx.Err() == nil; d = time.Until(due) {
				p.wait(min(d, 10*time.Millisecond))
			}
			if ctx.Err() != nil {
				return
			}
			slots <- slot{n, due.UnixNano()}
		}
	})
	_, err := many(ctx, senders, func(ctx context.Context, _ int) error {
		s, ok := <-slots
		if !ok {
			return ctx.Err()
		}
		return send(ctx, stamped(w.size, s.n, s.due))
	})
	cancel() // where a send failed, what is left of the schedule is not waited for
	wg.Wait()
	return err
}

// A stopwatch keeps how long stamped messages took to their handler.
type stopwatch struct {
	*arrival
	mu   sync.Mutex
	hist *hdrhistogram.Histogram
}

func newStopwatch(w work) *stopwatch { return &stopwatch{arrival: newArrival(w), hist: newHistogram()} }

func (s *stopwatch) see(body []byte) {
	took := time.Duration(time.Now().UnixNano() - stampOf(body))
	s.mu.Lock()
	record(s.hist, took)
	s.mu.Unlock()
	s.add()
}

func (s *stopwatch) sample() sample {
	r := s.between()
	r.latency = s.hist
	return r
}
