package dovetailtest

import (
	"context"
	"sync"
	"testing"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// A Recorder is a Sender that keeps what it is sent, for testing code that only
// sends. It confirms everything, unless Fail is set. It is safe for concurrent
// use.
type Recorder struct {
	// Fail, if not nil, is asked before messages are recorded; its error is
	// returned instead.
	Fail func(ctx context.Context, messages []*driver.Message) error

	name string
	mu   sync.Mutex
	sent []*driver.Message
}

// NewRecorder returns a recorder that sends in the name of a service.
func NewRecorder(service string) *Recorder { return &Recorder{name: service} }

// Name returns the service's name.
func (r *Recorder) Name() string { return r.name }

// Send records messages.
func (r *Recorder) Send(ctx context.Context, messages []*driver.Message) error {
	if r.Fail != nil {
		if err := r.Fail(ctx, messages); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, m := range messages {
		if m.Source == "" {
			m.Source = r.name
		}
		r.sent = append(r.sent, m)
	}
	return nil
}

// Messages returns what was sent so far, in order.
func (r *Recorder) Messages() []*driver.Message {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]*driver.Message(nil), r.sent...)
}

// Reset forgets what was sent.
func (r *Recorder) Reset() {
	r.mu.Lock()
	r.sent = nil
	r.mu.Unlock()
}

// TypedContract is a contract whose bodies are T.
type TypedContract[T any] interface {
	dovetail.Contract
	Decode(m *driver.Message) (T, error)
}

// Sent returns the values of one contract that were sent so far, in order. A
// body that cannot be decoded fails the test.
func Sent[T any](tb testing.TB, r *Recorder, c TypedContract[T]) []T {
	tb.Helper()
	var values []T
	for _, m := range r.Messages() {
		if m.Type != c.Spec().Type() {
			continue
		}
		v, err := c.Decode(m)
		if err != nil {
			tb.Fatalf("message %s: %v", m.ID, err)
		}
		values = append(values, v)
	}
	return values
}
