package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Kind is what an error means to whoever must decide what to do next. The same
// kind has the same consequence on every transport:
//
//   - Retryable and Unclassified are tried again, with back-off, by sends for as
//     long as a send lasts, by Run for ever.
//   - NotFound provisions everything again, and is then tried again.
//   - Denied, Conflict and Unsupported end Run while it starts. Once a receiver
//     has been open they are tried again, with a log line: somebody changed the
//     engine, and may change it back. A send is refused.
//   - TooLarge refuses the one message.
//   - PositionLost ends Run, but for a broadcast, which goes on from now.
//   - Closed ends whatever returned it.
//
// So an argument that can never succeed is Conflict or Unsupported, not
// Unclassified, and an engine that is starting or stopping is Retryable, whatever
// code it answers with.
type Kind int

const (
	// Unclassified errors are retried, with back-off.
	Unclassified Kind = iota
	// Retryable: the engine or the link is away; the same call may succeed.
	Retryable
	// NotFound: the channel or subscription does not exist.
	NotFound
	// Denied: no permission, or wrong credentials.
	Denied
	// TooLarge: the message is over a limit of the engine.
	TooLarge
	// Conflict: what exists contradicts what was asked for.
	Conflict
	// Closed: the connection or receiver was closed by us.
	Closed
	// Canceled: the caller's context ended.
	Canceled
	// Unsupported: the transport cannot do this at all.
	Unsupported
	// PositionLost: the engine no longer has the position to resume from.
	PositionLost
)

var kindNames = [...]string{"unclassified", "retryable", "not found", "denied", "too large", "conflict", "closed",
	"canceled", "unsupported", "position lost"}

// String returns the kind in words, as in "not found".
func (k Kind) String() string {
	if k < 0 || int(k) >= len(kindNames) {
		return fmt.Sprintf("Kind(%d)", int(k))
	}
	return kindNames[k]
}

// Errors that transports return, wrapped with what was being done. A transport
// uses these rather than errors of its own where one fits.
var (
	ErrRetryable    = errors.New("temporarily unavailable")
	ErrNotFound     = errors.New("not provisioned")
	ErrDenied       = errors.New("permission denied")
	ErrTooLarge     = errors.New("message too large")
	ErrConflict     = errors.New("exists with other settings")
	ErrClosed       = errors.New("closed")
	ErrUnsupported  = errors.New("not supported by this transport")
	ErrPositionLost = errors.New("the position to resume from is gone")
)

// Classify maps the errors of this package and of package context to kinds. A
// transport's Conn.Classify falls back on it.
func Classify(err error) Kind {
	switch {
	case err == nil:
		return Unclassified
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, ErrClosed):
		return Closed
	case errors.Is(err, ErrRetryable), errors.Is(err, context.DeadlineExceeded):
		return Retryable
	case errors.Is(err, ErrNotFound):
		return NotFound
	case errors.Is(err, ErrDenied):
		return Denied
	case errors.Is(err, ErrTooLarge):
		return TooLarge
	case errors.Is(err, ErrConflict):
		return Conflict
	case errors.Is(err, ErrUnsupported):
		return Unsupported
	case errors.Is(err, ErrPositionLost):
		return PositionLost
	}
	return Unclassified
}

// A SendFailure says what became of one message of a batch that was not
// confirmed.
type SendFailure struct {
	Index   int   // in the slice given to Send
	Err     error // why
	Unknown bool  // it may have been sent: the link or the time ended before the engine answered
}

// SendError is a Send of which not every message was confirmed. Those that it
// does not name were.
type SendError struct {
	Failures []SendFailure // ordered by Index
}

// Error tells how many failed, how many of them with unknown outcome, and why
// the first did.
func (e *SendError) Error() string {
	if len(e.Failures) == 0 {
		return "send: no failures"
	}
	unknown := 0
	for _, f := range e.Failures {
		if f.Unknown {
			unknown++
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d not confirmed", len(e.Failures))
	if unknown > 0 {
		fmt.Fprintf(&b, " (%d of unknown outcome)", unknown)
	}
	fmt.Fprintf(&b, ": message %d: %v", e.Failures[0].Index, e.Failures[0].Err)
	return b.String()
}

// Unwrap returns the causes, for errors.Is and errors.As.
func (e *SendError) Unwrap() []error {
	errs := make([]error, len(e.Failures))
	for i, f := range e.Failures {
		errs[i] = f.Err
	}
	return errs
}

// Fail adds a failure. Failures must be added in the order of their indexes.
func (e *SendError) Fail(index int, err error, unknown bool) {
	e.Failures = append(e.Failures, SendFailure{index, err, unknown})
}

// OrNil returns e as an error, or nil if nothing failed.
func (e *SendError) OrNil() error {
	if len(e.Failures) == 0 {
		return nil
	}
	return e
}

// StaleError is a Settle of which some settlements were not taken, because the
// delivery was not the receiver's any more: the engine delivers those messages
// again. So it may those whose settlement was sent by an earlier Settle that
// ended with an error. All others are settled.
type StaleError struct {
	Indexes []int // in the slice given to Settle, ascending
}

// Error tells how many settlements came too late.
func (e *StaleError) Error() string {
	return fmt.Sprintf("%d settlements came too late: the engine delivers these messages again", len(e.Indexes))
}
