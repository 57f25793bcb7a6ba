package dovetail

import (
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A DeadLetter is a message that could not be handled, kept on the channel
// DeadLetterChannel of its service in the same form on every transport (Dead
// Letter Channel in Enterprise Integration Patterns): the message as it came,
// and why it is here.
type DeadLetter struct {
	Message  *driver.Message // as it came
	ID       string          // of the dead letter itself
	Service  string          // that could not handle it
	Group    string
	Handler  string
	Error    string
	Stack    string    // of a panic
	Attempts int       // at handling it
	Requeues int       // how often it had been sent again before
	At       time.Time // when it was given up
}

// Headers of dead letters and of requeued messages. Dead letters carry the
// original's headers beside them, requeued messages as well.
const (
	headerDeadGroup    = "dovetail-dead-group"
	headerDeadHandler  = "dovetail-dead-handler"
	headerDeadError    = "dovetail-dead-error"
	headerDeadStack    = "dovetail-dead-stack"
	headerDeadAttempts = "dovetail-dead-attempts"
	headerDeadRequeues = "dovetail-dead-requeues"
	headerDeadAt       = "dovetail-dead-at"
	headerDeadService  = "dovetail-dead-service"
	headerOrigChannel  = "dovetail-original-channel"
	headerOrigID       = "dovetail-original-id"
	headerOrigSource   = "dovetail-original-source"
)

var deadHeaders = []string{headerDeadGroup, headerDeadHandler, headerDeadError, headerDeadStack, headerDeadAttempts,
	headerDeadRequeues, headerDeadAt, headerDeadService, headerOrigChannel, headerOrigID, headerOrigSource}

// Bounds of what is kept of an error, in bytes, so that a dead letter stays
// within what brokers take as headers.
const (
	maxDeadError = 2 << 10
	maxDeadStack = 6 << 10
)

// bury makes t's dead letter.
func (b *inbound) bury(t *task) *driver.Message {
	d := DeadLetter{
		Message: t.in.Message, Service: b.s.name, Group: t.in.Group, Handler: t.in.Handler,
		Error: t.err.Error(), Attempts: t.in.Attempt, Requeues: t.in.Requeues, At: now(),
	}
	var p *PanicError
	if errors.As(t.err, &p) {
		d.Stack = string(p.Stack)
	}
	return d.encode()
}

// encode makes the dead letter the message that keeps it. Its id follows from
// the original's and from where it failed, so that one failure is kept once.
func (d *DeadLetter) encode() *driver.Message {
	m := *d.Message
	m.Channel = DeadLetterChannel(d.Service)
	m.Transient = false
	m.Due = time.Time{}
	m.Timeout = 0
	m.ID = deriveID(nil, d.Requeues, d.Message.Source, d.Message.ID, d.Group, d.Handler, "dead")
	m.Source = d.Service
	m.Headers = make(driver.Headers, 0, len(d.Message.Headers)+len(deadHeaders))
	m.Headers = append(m.Headers, d.Message.Headers...)
	m.Headers = d.identity(m.Headers, d.Message.Channel)
	for _, h := range []driver.Header{
		{Name: headerDeadError, Value: driver.EscapeValue(cut(d.Error, maxDeadError))},
		{Name: headerDeadStack, Value: driver.EscapeValue(cut(d.Stack, maxDeadStack))},
		{Name: headerDeadAttempts, Value: strconv.Itoa(d.Attempts)},
		{Name: headerDeadAt, Value: d.At.Format(time.RFC3339Nano)},
	} {
		if h.Value != "" {
			m.Headers = append(m.Headers, h)
		}
	}
	return &m
}

// identity appends what finds the way back: to the original, and to the handler.
func (d *DeadLetter) identity(h driver.Headers, channel string) driver.Headers {
	return append(h,
		driver.Header{Name: headerDeadService, Value: d.Service},
		driver.Header{Name: headerDeadGroup, Value: d.Group},
		driver.Header{Name: headerDeadHandler, Value: d.Handler},
		driver.Header{Name: headerDeadRequeues, Value: strconv.Itoa(d.Requeues)},
		driver.Header{Name: headerOrigChannel, Value: channel},
		driver.Header{Name: headerOrigID, Value: d.Message.ID},
		driver.Header{Name: headerOrigSource, Value: d.Message.Source},
	)
}

// ParseDeadLetter reads a message of a dead letter channel.
func ParseDeadLetter(m *driver.Message) (DeadLetter, error) {
	h := m.Headers
	if _, ok := h.Lookup(headerDeadGroup); !ok {
		return DeadLetter{}, fmt.Errorf("message %s is no dead letter: header %s is missing", m.ID, headerDeadGroup)
	}
	d := DeadLetter{
		ID:       m.ID,
		Service:  h.Get(headerDeadService),
		Group:    h.Get(headerDeadGroup),
		Handler:  h.Get(headerDeadHandler),
		Error:    driver.UnescapeValue(h.Get(headerDeadError)),
		Stack:    driver.UnescapeValue(h.Get(headerDeadStack)),
		Attempts: atoi(h.Get(headerDeadAttempts)),
		Requeues: atoi(h.Get(headerDeadRequeues)),
	}
	d.At, _ = time.Parse(time.RFC3339Nano, h.Get(headerDeadAt))
	d.Message = original(m)
	return d, nil
}

// original is the message that a dead letter or a requeued message wraps.
func original(m *driver.Message) *driver.Message {
	o := *m
	o.Channel = m.Headers.Get(headerOrigChannel)
	o.ID = m.Headers.Get(headerOrigID)
	o.Source = m.Headers.Get(headerOrigSource)
	o.Headers = append(driver.Headers(nil), m.Headers...)
	for _, name := range deadHeaders {
		o.Headers = o.Headers.Without(name)
	}
	return &o
}

// Requeue returns the message that, sent, has d's message handled again by the
// group and handler that failed, and by no other. The dead letter itself is
// then to be removed.
func (d *DeadLetter) Requeue() *driver.Message {
	again := *d
	again.Requeues++
	m := *d.Message
	m.Channel = RequeueChannel(d.Service)
	m.ID = deriveID(nil, again.Requeues, d.Message.Source, d.Message.ID, d.Group, d.Handler, "requeue")
	m.Source = d.Service
	m.Headers = again.identity(append(driver.Headers(nil), d.Message.Headers...), d.Message.Channel)
	return &m
}

// slimmed is a dead letter without what can be done without, after a broker
// refused it as it was.
func slimmed(m *driver.Message) *driver.Message {
	c := *m
	c.Headers = append(driver.Headers(nil), m.Headers...).Without(headerDeadStack)
	c.Headers = c.Headers.Set(headerDeadError, cut(c.Headers.Get(headerDeadError), 256))
	return &c
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + " …"
}
