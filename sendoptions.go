package dovetail

import (
	"fmt"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A SendOption is one call's choice when a message is sent.
type SendOption interface {
	RequestOption
	sendOption()
}

// A RequestOption is one call's choice when a reply is awaited. Every
// SendOption is one.
type RequestOption interface {
	GatherOption
	requestOption()
}

// A GatherOption is one call's choice when many replies are awaited. Every
// RequestOption is one.
type GatherOption interface {
	applyTo(*sendOptions)
}

type sendOptions struct {
	id      string
	headers driver.Headers
	due     time.Time
	within  time.Duration
	quorum  int
	expect  int
	each    []func(i int) []SendOption // of a batch
}

// of returns the options of the message at index i.
func (s *sendOptions) of(i int) (*sendOptions, error) {
	if len(s.each) == 0 {
		return s, nil
	}
	own := *s
	own.each, own.headers = nil, slices.Clip(s.headers)
	for _, f := range s.each {
		if f == nil {
			return nil, fmt.Errorf("%w: Each has no function", ErrInvalid)
		}
		for _, opt := range f(i) {
			opt.applyTo(&own)
		}
	}
	if own.each != nil {
		return nil, fmt.Errorf("%w: Each within Each: give its options in the outer one", ErrInvalid)
	}
	return &own, nil
}

type (
	anyOption   func(*sendOptions) // for everything that is sent
	awaitOption func(*sendOptions) // for what is awaited
	manyOption  func(*sendOptions) // for what is awaited of many
)

func (o anyOption) applyTo(s *sendOptions)   { o(s) }
func (o anyOption) sendOption()              {}
func (o anyOption) requestOption()           {}
func (o awaitOption) applyTo(s *sendOptions) { o(s) }
func (o awaitOption) requestOption()         {}
func (o manyOption) applyTo(s *sendOptions)  { o(s) }

// ID gives the message an id, for senders that can be killed and must send the
// same message again: order + "/reserve". Without it a message gets a UUIDv7;
// inside a handler, one that follows from the incoming message.
func ID(id string) SendOption { return anyOption(func(s *sendOptions) { s.id = id }) }

// Header adds a header. Names are compared without regard to case; those
// that begin with "dovetail-" are refused.
func Header(name, value string) SendOption {
	return anyOption(func(s *sendOptions) { s.headers = append(s.headers, driver.Header{Name: name, Value: value}) })
}

// Each gives the message at index i of a batch options of its own, from 0: those that f
// returns for it, on top of the others. f is called in order, by the goroutine that
// sends. Where one message is sent, i is 0. Two messages of a batch with one id are
// refused.
func Each(f func(i int) []SendOption) SendOption {
	return anyOption(func(s *sendOptions) { s.each = append(s.each, f) })
}

// DeliverAt keeps the message from being delivered before t. Where neither the
// transport nor a store can wait, the send is refused.
func DeliverAt(t time.Time) SendOption { return anyOption(func(s *sendOptions) { s.due = t }) }

// DeliverAfter is DeliverAt so long from now.
func DeliverAfter(d time.Duration) SendOption {
	return anyOption(func(s *sendOptions) { s.due = time.Now().Add(d) })
}

// Within bounds the wait for a reply, or for answers.
func Within(d time.Duration) RequestOption { return awaitOption(func(s *sendOptions) { s.within = d }) }

// Quorum ends a gathering once n distinct instances have answered without an
// error, and makes it fail with *QuorumError when fewer did.
func Quorum(n int) GatherOption { return manyOption(func(s *sendOptions) { s.quorum = n }) }

// Expect ends a gathering once n instances have answered, errors included.
func Expect(n int) GatherOption { return manyOption(func(s *sendOptions) { s.expect = n }) }
