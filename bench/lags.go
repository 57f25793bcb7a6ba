package bench

import (
	"context"
	"sync"
	"time"
)

// lags keeps when messages were committed and when they were delivered, by what
// they are stamped with.
type lags struct {
	mu        sync.Mutex
	committed map[int64]int64
	delivered map[int64]int64
	want      int
	all       chan struct{}
	tick      func(int)
}

func newLags(w work) *lags {
	return &lags{committed: make(map[int64]int64, w.count), delivered: make(map[int64]int64, w.count), want: w.count, all: make(chan struct{}), tick: w.tick}
}

// commit says that a message's transaction has just committed.
func (l *lags) commit(body []byte) {
	now := time.Now().UnixNano()
	l.mu.Lock()
	l.committed[stampOf(body)] = now
	l.mu.Unlock()
}

// deliver says that a message has just come. A second copy is passed over.
func (l *lags) deliver(body []byte) {
	now, stamp := time.Now().UnixNano(), stampOf(body)
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, again := l.delivered[stamp]; again {
		return
	}
	l.delivered[stamp] = now
	if n := len(l.delivered); n == l.want {
		close(l.all)
	} else if n&255 == 0 {
		l.tick(256)
	}
}

// now is how many have come.
func (l *lags) now() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.delivered)
}

func (l *lags) wait(ctx context.Context) error {
	select {
	case <-l.all:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fill puts how long each took into s. A message may come before its writer
// knows that it has committed: that is no time at all.
func (l *lags) fill(s *sample) {
	s.latency = newHistogram()
	for stamp, at := range l.committed {
		record(s.latency, time.Duration(l.delivered[stamp]-at))
	}
}

// whileWriting has w.callers write, and returns what was delivered until the
// last has written, with how long each message took.
func (l *lags) whileWriting(ctx context.Context, w work, write func(ctx context.Context, row string, body []byte) error) (sample, error) {
	make := numbered(w.size)
	writing := w
	writing.tick = func(int) {}
	s, err := many(ctx, writing, func(ctx context.Context, n int) error {
		body := make(n)
		err := write(ctx, rowName(n), body)
		l.commit(body)
		return err
	})
	if err != nil {
		return s, err
	}
	s.count = l.now()
	s.more = map[string]float64{"committed_per_s": float64(w.count) / s.elapsed.Seconds()}
	if err := l.wait(ctx); err != nil {
		return s, err
	}
	l.fill(&s)
	return s, nil
}

// leadIn is for how long nothing is looked at: both sides open their connections
// then, prepare their statements and begin to relay.
const leadIn = 200 * time.Millisecond

// paced writes at w.rate, and returns how long each message took from its
// commit.
func (l *lags) paced(ctx context.Context, w work, write func(ctx context.Context, row string, body []byte) error) (sample, error) {
	begin := time.Now()
	err := openLoop(ctx, w, func(ctx context.Context, body []byte) error {
		nth := stampOf(body) / int64(time.Second/time.Duration(w.rate))
		err := write(ctx, rowName(int(nth%counterRows)), body)
		l.commit(body)
		return err
	})
	s := sample{count: w.count, elapsed: time.Since(begin)}
	if err == nil {
		err = l.wait(ctx)
	}
	for stamp := range l.committed {
		if stamp < begin.Add(leadIn).UnixNano() {
			delete(l.committed, stamp)
		}
	}
	if err == nil {
		l.fill(&s)
	}
	return s, err
}
