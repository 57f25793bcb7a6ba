// Package backoff waits between attempts, for as long as a context allows: for transports,
// and for what calls them.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Sleep waits for d, and reports whether it passed before ctx ended.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// Double returns first for attempt 0, and twice as much for each further attempt, at
// most longest.
func Double(attempt int, first, longest time.Duration) time.Duration {
	const enough = 20 // doublings; more could overflow
	d := first << min(max(attempt, 0), enough)
	if d <= 0 || d > longest {
		return longest
	}
	return d
}

// Jitter returns d with up to a quarter more or less, so that many who wait for the
// same thing do not come at once.
func Jitter(d time.Duration) time.Duration {
	if d < 4 {
		return d
	}
	return d*3/4 + rand.N(d/2)
}
