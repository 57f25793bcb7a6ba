package dovetail

import (
	"context"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A Handler handles one message; typed handlers are wrapped into it.
type Handler func(ctx context.Context, in *Incoming) error

// Middleware wraps a handler. It runs once for every attempt.
type Middleware func(next Handler) Handler

// Hooks tell telemetry what happens. Each may be nil; they are called from
// several goroutines and must not block. A hook that panics is logged, and what it
// watches goes on.
type Hooks struct {
	// Send is called before messages are handed to the broker; it may add
	// headers to them. It returns the context to send with and a function that
	// is called with the outcome.
	Send func(ctx context.Context, messages []*driver.Message) (context.Context, func(error))

	// Handle is called before each attempt at handling a message. It returns
	// the handler's context and a function that is called with the outcome.
	Handle func(ctx context.Context, in *Incoming) (context.Context, func(error))

	// Notice is called for what happens beside the handlers.
	Notice func(Notice)
}

// NoticeKind says what a Notice is about.
type NoticeKind string

// What hooks are told.
const (
	NoticeRetry        NoticeKind = "retry"         // a handler failed; the message waits for its next attempt
	NoticeNotBegun     NoticeKind = "not-begun"     // a handler could not begin; the message waits, which is no attempt
	NoticeOutage       NoticeKind = "outage"        // handlers of a group cannot begin, or receivers have lost the broker; they try again until they can
	NoticeOutageOver   NoticeKind = "outage-over"   // they go on
	NoticeDead         NoticeKind = "dead"          // a message was kept as a dead letter
	NoticeLost         NoticeKind = "lost"          // a message could not be handled and the broker does not take its dead letter, however little is left of it: it was settled
	NoticeDiscard      NoticeKind = "discard"       // a message was settled unhandled, as its handler or its sender wished
	NoticeRefused      NoticeKind = "refused"       // a handler refused a message that awaits no answer
	NoticeExpired      NoticeKind = "expired"       // a request came too late and was answered so
	NoticeUnhandled    NoticeKind = "unhandled"     // a message of a type that this instance does not handle was kept until one does (Err says where), or settled as another's part of a shared channel
	NoticeLateReply    NoticeKind = "late-reply"    // a reply came that nobody waits for (any more); Err says why it was dropped
	NoticeLostCaller   NoticeKind = "lost-caller"   // a reply could not be sent: its caller is gone, or it is over a limit
	NoticeReceive      NoticeKind = "receive"       // receiving failed and will be tried again
	NoticeStall        NoticeKind = "stall"         // a receiver delivered nothing while messages waited, and was opened anew
	NoticeSettle       NoticeKind = "settle"        // settling failed; messages will come again
	NoticeRevoke       NoticeKind = "revoke"        // partitions went to another instance
	NoticePositionLost NoticeKind = "position-lost" // the broker no longer has what this group had not handled
)

// A Notice is something that happened beside the handlers. Its message and its
// error hold what others wrote: driver.Printable makes their texts fit to be shown.
// The service's own log is written so.
type Notice struct {
	Kind    NoticeKind
	Channel string
	Group   string
	Message *driver.Message // where one message is concerned
	quiet   bool            // the log has another line for it
	Attempt int
	Count   int           // with NoticeOutageOver: messages, or receivers, that waited; with NoticeNotBegun: how often one could not begin while others did
	After   time.Duration // with NoticeRetry: until the next attempt
	Err     error
}

// notice tells hooks and log. What is routine goes to the log at debug level.
func (s *Service) notice(n Notice) {
	s.counts.add(n.Kind)
	if s.opts.Hooks.Notice != nil {
		s.hooked("Notice", apart(func() error { // from goroutines that everything depends on
			s.opts.Hooks.Notice(n)
			return nil
		}))
	}
	s.log(n)
}
