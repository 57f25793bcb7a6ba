package outbox

import (
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver/backoff"
)

// mostAway is the longest wait between two tries at a database or a broker that is away.
// With jitter, work goes on at most 1.25 times as long after its return.
const mostAway = 2 * time.Second

// pace is how long to wait after an attempt: see backoff.Double, with jitter.
func pace(attempt int, first, most time.Duration) time.Duration {
	return backoff.Jitter(backoff.Double(attempt, first, most))
}

// throttledLog says once that something is wrong, then now and then how often it went
// wrong meanwhile, and once that it is over.
type throttledLog struct {
	log *slog.Logger

	mu   sync.Mutex
	what map[string]*ongoing
}

type ongoing struct {
	since, said, last time.Time
	every             time.Duration // until it is said again
	times             int
	err               error
}

// What goes on is said again after repeatEvery, then after twice that, and so
// on up to repeatMost.
const (
	repeatEvery = 30 * time.Second
	repeatMost  = time.Hour
)

func (t *throttledLog) report(doing string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	if t.what == nil {
		t.what = map[string]*ongoing{}
	}
	w := t.what[doing]
	if w == nil {
		t.what[doing] = &ongoing{since: now, said: now, last: now, every: repeatEvery, times: 1, err: err}
		t.log.Warn(doing+": trying again", "error", err)
		return
	}
	w.times++
	w.last, w.err = now, err
	if now.Sub(w.said) >= w.every {
		w.said, w.every = now, min(2*w.every, repeatMost)
		t.log.Warn(doing+": still trying", "error", err, "times", w.times, "since", w.since)
	}
}

func (t *throttledLog) over(doing string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	w := t.what[doing]
	if w == nil {
		return
	}
	delete(t.what, doing)
	t.log.Info(doing+": works again", "times", w.times, "after", time.Since(w.since))
}

// forget drops what begins with a prefix and is somebody else's affair now.
func (t *throttledLog) forget(prefix string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for doing := range t.what {
		if strings.HasPrefix(doing, prefix) {
			delete(t.what, doing)
		}
	}
}

// stuck is all trouble that is not over.
func (t *throttledLog) stuck() (all []dovetail.Stuck) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for doing, w := range t.what {
		all = append(all, dovetail.Stuck{Kind: dovetail.StuckOutbox, Count: w.times, Since: w.since, Err: doing + ": " + w.err.Error()})
	}
	return all
}

// text is the latest trouble that is not over.
func (t *throttledLog) text() (text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var last time.Time
	for doing, w := range t.what {
		if w.last.After(last) {
			last, text = w.last, doing+": "+w.err.Error()
		}
	}
	return text
}
