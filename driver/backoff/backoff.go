// Package backoff waits between attempts, no longer than a context allows. Transports
// use it, and what calls them. All functions are safe for concurrent use.
package backoff

import (
	"context"
	"math/rand/v2"
	"time"
)

// Sleep blocks until d has passed or ctx has ended, whichever is first, and reports
// whether d has passed. Where d is 0 or less and ctx has ended, either may be reported.
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

// Double returns how long to wait before the next attempt: first for attempt 0, twice
// as long for each further attempt, and never more than longest.
func Double(attempt int, first, longest time.Duration) time.Duration {
	const enough = 20 // doublings; more could overflow
	n := min(max(attempt, 0), enough)
	if first > longest>>n { // doubled so often it is longer, or more than a Duration holds
		return longest
	}
	return first << n
}

// Jitter returns a random duration from three quarters of d to five quarters of d, so
// that processes that began to wait together do not continue together. A d below 4 ns
// is returned as it is.
func Jitter(d time.Duration) time.Duration {
	if d < 4 {
		return d
	}
	return d*3/4 + rand.N(d/2)
}
