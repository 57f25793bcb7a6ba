package dovetail

import (
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// Errors that callers decide on.
var (
	// ErrNoReply: nobody answered in time. The request may or may not have
	// been carried out.
	ErrNoReply = errors.New("no reply in time")
	// ErrExpired: the receiver got the request after its deadline and did not
	// carry it out.
	ErrExpired = errors.New("request expired before it was handled")
	// ErrQuorum: fewer answers than asked for. *QuorumError has the count.
	ErrQuorum = errors.New("quorum not reached")
	// ErrNotRunning: replies can be awaited only while Run runs.
	ErrNotRunning = errors.New("service is not running")
	// ErrUndeclared: a contract was sent that the service did not declare.
	ErrUndeclared = errors.New("contract not declared")
	// ErrInvalid: a message is over a limit or malformed, and was not sent.
	ErrInvalid = errors.New("invalid message")
	// ErrUnknownOutcome: it cannot be said whether the message was sent, or
	// the transaction committed. Trying again under the same id is safe behind
	// an inbox.
	ErrUnknownOutcome = errors.New("outcome unknown")
)

// SendError names, by index, the messages of a batch that were not confirmed,
// each as not sent or as unknown.
type SendError = driver.SendError

// A RemoteError is the failure of a receiver, as its caller sees it.
type RemoteError struct {
	Service  string // who failed
	Message  string // its error's text
	Attempts int    // how often it tried
}

// Error tells who failed and why.
func (e *RemoteError) Error() string {
	return fmt.Sprintf("%s failed after %d attempts: %s", e.Service, e.Attempts, e.Message)
}

// A QuorumError is a gathering that fell short. It is ErrQuorum.
type QuorumError struct {
	Want int // distinct instances asked for
	Got  int // that succeeded
	Bad  int // that refused or failed
}

// Error tells the counts.
func (e *QuorumError) Error() string {
	return fmt.Sprintf("quorum not reached: %d of %d instances succeeded, %d refused or failed", e.Got, e.Want, e.Bad)
}

// Is reports whether target is ErrQuorum.
func (e *QuorumError) Is(target error) bool { return target == ErrQuorum }

// Permanent marks an error as one that trying again cannot help: the message
// becomes a dead letter at once.
func Permanent(err error) error {
	if err == nil {
		return nil
	}
	return &permanentError{err}
}

type permanentError struct{ error }

func (e *permanentError) Unwrap() error { return e.error }

// RetryAfter marks an error as one to be tried again after d rather than by
// the policy's back-off. It counts as an attempt.
func RetryAfter(d time.Duration, err error) error {
	if err == nil {
		err = errors.New("asked to be tried again")
	}
	return &retryAfterError{err, d}
}

type retryAfterError struct {
	error
	after time.Duration
}

func (e *retryAfterError) Unwrap() error { return e.error }

// Discard marks an error as one whose message is not wanted any more: it is
// settled, counted and told to the hooks, and not kept as a dead letter.
func Discard(err error) error {
	if err == nil {
		err = errors.New("discarded")
	}
	return &discardError{err}
}

type discardError struct{ error }

func (e *discardError) Unwrap() error { return e.error }

// NotBegun marks an error as one that came before the handler began: the
// database cannot be reached, its pool is empty, a lease is lost. The message
// keeps its place and holds its key. It counts as no attempt, however long that
// lasts, and is tried again until the handler begins. Packages that wrap
// handlers, like inbox, use it.
func NotBegun(err error) error {
	if err == nil {
		return nil
	}
	return &notBegunError{err}
}

type notBegunError struct{ error }

func (e *notBegunError) Unwrap() error { return e.error }

// A PanicError is a handler that panicked.
type PanicError struct {
	Value any
	Stack []byte
}

// Error tells the panic's value.
func (e *PanicError) Error() string { return fmt.Sprintf("handler panicked: %v", e.Value) }
