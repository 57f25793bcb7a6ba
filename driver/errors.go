package driver

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Kind says what an error means for what the core does next. A kind has the same
// consequence on every transport:
//
//   - Retryable and Unclassified: the core tries the call again, with back-off. A
//     send is tried again until its time is over (dovetail.Options.SendTimeout),
//     everything else as long as the service runs.
//   - NotFound: the core provisions everything again and tries the call again.
//   - Denied, Conflict and Unsupported: while the service starts, its Run ends with
//     the error. Once a receiver has been open, the core logs the error and tries
//     again, since somebody changed the engine and may change it back. A send
//     fails.
//   - TooLarge: the one message fails.
//   - PositionLost: Run ends; a broadcast subscription goes on with new messages.
//   - Closed: what returned the error is over.
//
// So a transport returns Conflict or Unsupported, and not Unclassified, for
// arguments that can never succeed; and Retryable for an engine that is starting or
// stopping, whatever code the engine answers with.
type Kind int

const (
	// Unclassified errors are retried, with back-off.
	Unclassified Kind = iota
	// Retryable: the engine or the link is away; the same call may succeed later.
	Retryable
	// NotFound: the channel or subscription does not exist.
	NotFound
	// Denied: no permission, or wrong credentials.
	Denied
	// TooLarge: the message is over a limit of the engine.
	TooLarge
	// Conflict: what exists contradicts what was asked for.
	Conflict
	// Closed: this program has closed the connection or the receiver.
	Closed
	// Canceled: the caller's context ended.
	Canceled
	// Unsupported: the transport cannot do this at all.
	Unsupported
	// PositionLost: the engine no longer has the position to go on from.
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

// Errors that transports return, wrapped with what was being done, for errors.Is.
// Each has a kind, which Classify returns. A transport uses these in place of
// errors of its own where one fits.
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

// Classify returns the kind of the errors of this package and of package context,
// wrapped or not; context.DeadlineExceeded is Retryable. nil and all other errors
// are Unclassified. Conn.Classify of a transport calls it, and then looks at the
// errors of its engine.
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

// A SendFailure is one message of a Send that was not confirmed.
type SendFailure struct {
	Index   int   // of the message in the slice that Send was given
	Err     error // why; Conn.Classify tells its kind
	Unknown bool  // the message may have been stored: the link was lost or the time was over before the engine answered. false: it was not sent
}

// SendError says which messages of a Send were not confirmed. All messages that
// it does not name were.
type SendError struct {
	Failures []SendFailure // by ascending Index, at least one
}

// Error says how many messages were not confirmed, how many of them have an
// unknown outcome, and why the first was not confirmed.
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

// Fail adds a failure. The caller adds failures by ascending index, from one
// goroutine at a time.
func (e *SendError) Fail(index int, err error, unknown bool) {
	e.Failures = append(e.Failures, SendFailure{index, err, unknown})
}

// OrNil returns e as an error, or nil if it has no failures: what Send returns.
func (e *SendError) OrNil() error {
	if len(e.Failures) == 0 {
		return nil
	}
	return e
}

// StaleError names the settlements of a Settle that were not taken, because their
// deliveries were not the receiver's any more: the engine delivers these messages
// again. It may also name a settlement that an earlier Settle, which returned an
// error, had sent: that message may be delivered again. All other settlements were
// taken.
type StaleError struct {
	Indexes []int // in the slice that Settle was given; ascending, at least one
}

// Error says how many settlements came too late.
func (e *StaleError) Error() string {
	return fmt.Sprintf("%d settlements came too late: the engine delivers these messages again", len(e.Indexes))
}
