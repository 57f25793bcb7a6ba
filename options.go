package dovetail

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// Options are a service's choices. The zero value of each field stands for its
// default.
type Options struct {
	// Instance names this process among those of the service; it must be
	// unique among them. Default: random.
	Instance string

	// Version is the service's own version, for documents and the directory,
	// as in "1.4.2".
	Version string

	// Logger gets what an operator should know; never bodies. What Open connects
	// with logs there too; a connection that is given to New logs where its own
	// options say. Default: slog.Default().
	Logger *slog.Logger

	// Limits bound messages, both ways.
	Limits Limits

	// Concurrency is how many handlers of one subscription run at once, unless
	// the subscription says otherwise. Default: 16.
	Concurrency int

	// Window is the most messages of one subscription that are received and not
	// yet handled. Messages of a key in retry do not count here: MaxDeferred bounds
	// them. Default: 1024, and at least four times the concurrency.
	Window int

	// MaxDeferred is how many messages of one subscription may be in hand beyond the
	// window: behind keys that are held for a retry, or handled and not settled
	// yet. A crash repeats at most Window + MaxDeferred. Default: 2 × Window.
	MaxDeferred int

	// WindowBytes is how many bytes of messages one subscription has in hand
	// at most; one message is taken whatever its size. Default: 32 MiB.
	WindowBytes int

	// Retry is what happens to a message whose handler fails, unless the
	// subscription says otherwise.
	Retry RetryPolicy

	// RequestTimeout is how long replies and answers are awaited when neither
	// Within nor the context says. Default: 30 s.
	RequestTimeout time.Duration

	// SendTimeout is how long a send is tried again while the broker is away,
	// where the context does not end earlier. Default: 30 s.
	SendTimeout time.Duration

	// DrainTimeout is how long Run waits for handlers when it ends, before it
	// cancels their contexts. Default: 30 s.
	DrainTimeout time.Duration

	// RevokeTimeout is how long a partition that the broker gives to another
	// instance waits for the handlers that had begun with messages of it. It is
	// then released all the same, and the other instance handles these messages
	// again; with an inbox they have one effect. What has not begun moves at
	// once. Default: 10 s.
	RevokeTimeout time.Duration

	// StallAfter is how long a receiver may deliver nothing while its backlog
	// is not empty before it is opened again. Default: 1 min.
	StallAfter time.Duration

	// Middleware wraps every handler, the first outermost; around a batch
	// handler it runs for each message.
	Middleware []Middleware

	// BatchMiddleware wraps every batch handler, the first outermost, outside
	// Middleware. Handlers of single messages are not wrapped.
	BatchMiddleware []BatchMiddleware

	// Hooks tell telemetry what happens.
	Hooks Hooks
}

func (o Options) withDefaults() Options {
	if o.Instance == "" {
		o.Instance = NewID()[24:]
	}
	o.Logger = driver.PrintableLogger(o.Logger)
	o.Logger = slog.New(soundLog{o.Logger.Handler()})
	o.Limits = o.Limits.withDefaults()
	orDefault(&o.Concurrency, 16)
	orDefault(&o.Window, max(1024, 4*o.Concurrency))
	orDefault(&o.MaxDeferred, 2*o.Window)
	orDefault(&o.WindowBytes, 32<<20)
	orDefault(&o.RequestTimeout, 30*time.Second)
	orDefault(&o.SendTimeout, 30*time.Second)
	orDefault(&o.DrainTimeout, 30*time.Second)
	orDefault(&o.RevokeTimeout, 10*time.Second)
	orDefault(&o.StallAfter, time.Minute)
	o.Retry = o.Retry.withDefaults()
	return o
}

func orDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (o *Options) check() error {
	if err := driver.ValidName(o.Instance); err != nil {
		return fmt.Errorf("Options.Instance: %w", err)
	}
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"Concurrency", int64(o.Concurrency)}, {"Window", int64(o.Window)}, {"MaxDeferred", int64(o.MaxDeferred)},
		{"WindowBytes", int64(o.WindowBytes)}, {"RequestTimeout", int64(o.RequestTimeout)},
		{"SendTimeout", int64(o.SendTimeout)}, {"DrainTimeout", int64(o.DrainTimeout)}, {"StallAfter", int64(o.StallAfter)},
		{"RevokeTimeout", int64(o.RevokeTimeout)},
		{"Limits.Body", int64(o.Limits.Body)}, {"Limits.Headers", int64(o.Limits.Headers)}, {"Limits.HeaderBytes", int64(o.Limits.HeaderBytes)},
	} {
		if f.value < 0 {
			return fmt.Errorf("Options.%s: %d: want a positive value, or 0 for the default", f.name, f.value)
		}
	}
	for i, m := range o.Middleware {
		if m == nil {
			return fmt.Errorf("Options.Middleware[%d] is nil: leave it out", i)
		}
	}
	for i, m := range o.BatchMiddleware {
		if m == nil {
			return fmt.Errorf("Options.BatchMiddleware[%d] is nil: leave it out", i)
		}
	}
	return o.Retry.check("Options.Retry")
}

// A SubscribeOption is one subscription's choice.
type SubscribeOption func(*subscription)

// Group names the subscription's group "service.name", so that one service can
// have several interests in one event.
func Group(name string) SubscribeOption { return func(s *subscription) { s.as = name } }

// Concurrency runs at most n handlers of the subscription at once. Subscriptions
// that share a receiver (one channel, one group) share the largest.
func Concurrency(n int) SubscribeOption {
	return func(s *subscription) { s.concurrency, s.limited = n, true }
}

// BatchSize hands a batch handler at most n messages at once; the default is
// 100.
func BatchSize(n int) SubscribeOption { return func(s *subscription) { s.batchSize = n } }

// Ordered demands order by key across all instances. Where the transport cannot
// give it, Run returns an error.
func Ordered() SubscribeOption { return func(s *subscription) { s.ordered = true } }

// Broadcast gives the message to every instance of the service, rather than to
// one of them, while it runs.
func Broadcast() SubscribeOption { return func(s *subscription) { s.broadcast = true } }

// AnyType has the subscription take every message of its channel that no other
// handler of the group takes, whatever its type, and those without one: a topic
// of programs that know nothing of contracts. The handler sees type and headers
// through DeliveryFromContext. A body of []byte is handed over as it is.
func AnyType() SubscribeOption { return func(s *subscription) { s.anyType = true } }

// Timeout cancels a handler's context after d; an error that follows counts as
// any other. By default a handler may take its time: its lease is extended.
func Timeout(d time.Duration) SubscribeOption { return func(s *subscription) { s.timeout = d } }

// Retry is the subscription's retry policy.
func Retry(p RetryPolicy) SubscribeOption { return func(s *subscription) { s.retry = &p } }

// Use wraps the subscription's handler, inside the service's middleware. Around a
// batch handler it runs for each message.
func Use(m ...Middleware) SubscribeOption {
	return func(s *subscription) { s.middleware = append(s.middleware, m...) }
}

// UseBatch wraps the subscription's batch handler, inside the service's.
func UseBatch(m ...BatchMiddleware) SubscribeOption {
	return func(s *subscription) { s.batchMiddleware = append(s.batchMiddleware, m...) }
}
