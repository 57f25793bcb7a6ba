package dovetail

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// Forever is a number of attempts that no message comes to: with it as
// RetryPolicy.Attempts a message is tried again until it is handled, or its error says
// that trying again does not help (Permanent, Discard, Refuse). Messages of other keys go on meanwhile. An engine that takes back what is
// unsettled for long (driver.Capabilities.AckTimeout) refuses such a policy.
const Forever = math.MaxInt

// A RetryPolicy says how often and when a message is tried again whose handler
// failed. While it waits, its key waits with it, in order; other keys go on.
// After the last attempt it is kept as a dead letter and its key goes on. Zero
// fields stand for the defaults.
type RetryPolicy struct {
	// Attempts is how often a message is tried in all, at least 1. Default: 10.
	// Forever stands for no end.
	Attempts int
	// First is the wait after the first failure. Default: 50 ms.
	First time.Duration
	// Factor multiplies the wait after each further failure, at least 1.
	// Default: 2.
	Factor float64
	// Max bounds the wait, before jitter. Default: 30 s.
	Max time.Duration
	// Jitter spreads each wait by up to this share of it, 0 to 1, so that
	// failures that began together do not come back together. Default: 0.2;
	// a negative value means none.
	Jitter float64
}

func (p RetryPolicy) withDefaults() RetryPolicy {
	orDefault(&p.Attempts, 10)
	orDefault(&p.First, 50*time.Millisecond)
	orDefault(&p.Factor, 2)
	orDefault(&p.Max, 30*time.Second)
	orDefault(&p.Jitter, 0.2)
	return p
}

func (p RetryPolicy) check(field string) error {
	switch {
	case p.Attempts < 1:
		return fmt.Errorf("%s.Attempts: %d: want at least 1", field, p.Attempts)
	case p.First < 0 || p.Max < 0:
		return fmt.Errorf("%s: First %v, Max %v: want positive times, or 0 for the default", field, p.First, p.Max)
	case p.Factor < 1:
		return fmt.Errorf("%s.Factor: %g: want at least 1", field, p.Factor)
	case p.Jitter > 1:
		return fmt.Errorf("%s.Jitter: %g: want at most 1", field, p.Jitter)
	}
	return nil
}

// Wait returns how long to wait after the given failed attempt, counted from 1.
func (p RetryPolicy) Wait(attempt int) time.Duration {
	d := min(float64(p.First)*math.Pow(p.Factor, float64(attempt-1)), float64(p.Max))
	if p.Jitter > 0 {
		d *= 1 + p.Jitter*(2*rand.Float64()-1)
	}
	return time.Duration(d)
}

// longest is how long all waits take together at most, or a year where that is
// less.
func (p RetryPolicy) longest() time.Duration {
	const year = 365 * 24 * time.Hour
	spread := 1 + max(0, p.Jitter)
	p.Jitter = -1
	const exact = 10_000 // attempts; a year at most is enough to know of what follows
	total := 0.0
	for attempt := 1; attempt < p.Attempts && total < float64(year); attempt++ {
		d := p.Wait(attempt)
		if p.Factor == 1 || d >= p.Max || attempt == exact {
			if p.Factor > 1 {
				d = p.Max
			}
			total += float64(d) * float64(p.Attempts-attempt)
			break
		}
		total += float64(d)
	}
	return time.Duration(min(total*spread, float64(year)))
}

// A result is what an attempt's error means for its message.
type result int

const (
	resultDone       result = iota // handled, or refused: settle, with the answer
	resultRetry                    // try again after a while
	resultDeadLetter               // keep as a dead letter
	resultForward                  // keep until an instance comes that handles it
	resultPass                     // settle: no handler takes it, and none has to
	resultDrop                     // settle and forget
	resultNotBegun                 // its handler could not begin: hold it, count nothing
)

// classify decides what becomes of a message after an attempt.
func (p RetryPolicy) classify(err error, attempt int) (v result, after time.Duration) {
	if err == nil {
		return resultDone, 0
	}
	var (
		permanent *permanentError
		dropped   *discardError
		later     *retryAfterError
		early     *notBegunError
	)
	switch {
	case errors.As(err, &early):
		return resultNotBegun, 0
	case errors.As(err, &dropped):
		return resultDrop, 0
	case RefusalOf(err) != nil:
		return resultDone, 0
	case errors.As(err, &permanent), attempt >= p.Attempts:
		return resultDeadLetter, 0
	case errors.Is(err, ErrUndeclared), errors.Is(err, ErrInTransaction): // no retry changes the program
		return resultDeadLetter, 0
	case errors.As(err, &later):
		return resultRetry, max(0, later.after)
	}
	return resultRetry, p.Wait(attempt)
}
