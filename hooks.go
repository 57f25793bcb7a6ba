package dovetail

import (
	"context"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// Hooks tell telemetry what happens. Each may be nil; they are called from
// several goroutines and must not block. A hook that panics is logged, and what it
// watches goes on. JoinHooks makes one of several.
type Hooks struct {
	// Prepare is called once for every message, when it is handed over: to the
	// service, to a transaction of an outbox, or as the answer of a handler. ctx
	// is that of who sends. Prepare may add headers, such as a trace context:
	// they travel with the message, and an outbox stores them with it. A message
	// that is refused afterwards, or whose transaction is rolled back, is not sent.
	Prepare func(ctx context.Context, messages []*driver.Message)

	// Send is called when messages are handed to the broker, and must not change
	// them. It returns the context to send with and a function that is called
	// with the outcome, a *SendError where only some were not confirmed.
	// For Service.Send it is called once, also if the send is tried again.
	// For answers, dead letters and what an outbox's relay publishes (later, and
	// perhaps in another process) it is called at every attempt. One of these calls
	// ends with nil; more than one after a crash.
	Send func(ctx context.Context, messages []*driver.Message) (context.Context, func(error))

	// Handle is called before each attempt at handling a message. It returns
	// the handler's context and a function that is called with the outcome.
	Handle func(ctx context.Context, in *Delivery) (context.Context, func(error))

	// Notice is called for what happens beside the handlers.
	Notice func(Notice)

	others []Hooks // see JoinHooks
}

// JoinHooks returns hooks that call all of these. The first is outermost: its
// context is given to the second, and its end is called after the second's. One
// that panics does not keep the others from being called.
func JoinHooks(hooks ...Hooks) Hooks { return Hooks{others: slices.Clone(hooks)} }

// hookSet is the hooks of a service, by kind.
type hookSet struct {
	prepare []func(context.Context, []*driver.Message)
	send    []func(context.Context, []*driver.Message) (context.Context, func(error))
	handle  []func(context.Context, *Delivery) (context.Context, func(error))
	notice  []func(Notice)
}

func (s *hookSet) add(h Hooks) {
	if h.Prepare != nil {
		s.prepare = append(s.prepare, h.Prepare)
	}
	if h.Send != nil {
		s.send = append(s.send, h.Send)
	}
	if h.Handle != nil {
		s.handle = append(s.handle, h.Handle)
	}
	if h.Notice != nil {
		s.notice = append(s.notice, h.Notice)
	}
	for _, other := range h.others {
		s.add(other)
	}
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
	NoticeReplyFailed  NoticeKind = "reply-failed"  // a reply could not be sent: its caller is gone, or it is over a limit
	NoticeReceive      NoticeKind = "receive"       // receiving failed and will be tried again
	NoticeStall        NoticeKind = "stall"         // a receiver delivered nothing while messages waited, and was opened again
	NoticeSettle       NoticeKind = "settle"        // settling failed; messages will come again
	NoticeRevoke       NoticeKind = "revoke"        // partitions went to another instance
	NoticeUnordered    NoticeKind = "unordered"     // another instance receives messages of the same keys side by side with this one
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
	for _, told := range s.hooks.notice {
		s.hooked("Notice", apart(func() error { // from goroutines that everything depends on
			told(n)
			return nil
		}))
	}
	s.log(n)
}
