package bench

import (
	"sync/atomic"
	"time"
)

// A ticker adds up what many report and passes it on ten times a second at
// most.
type ticker struct {
	report func(done int)
	done   atomic.Int64
	last   atomic.Int64 // Unix nanoseconds
}

func (t *ticker) add(n int) {
	done := t.done.Add(int64(n))
	now, last := time.Now().UnixNano(), t.last.Load()
	if now-last > int64(100*time.Millisecond) && t.last.CompareAndSwap(last, now) {
		t.report(int(done))
	}
}
