package dovetail

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
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
	Cause    string // why it is here: "" for a handler that failed, or CauseUnhandled
	Error    string
	Stack    string    // of a panic
	Attempts int       // at handling it
	Requeues int       // how often it had been sent again before
	At       time.Time // when it was given up

	// Cut names what the broker had no room for, and Message lacks: "stack",
	// "headers", "body", "names". Body then tells the size and the hash of a
	// body that is missing; such a letter cannot be handled again.
	Cut  []string
	Body string

	token string // of a request, for its reply
}

// CauseUnhandled is the cause of a dead letter that no handler has seen: the
// instance that got the message does not handle its type.
const CauseUnhandled = "unhandled"

// Headers of dead letters and of requeued messages. Dead letters carry the
// original's headers beside them, requeued messages as well.
const (
	headerDeadGroup    = "dovetail-dead-group"
	headerDeadHandler  = "dovetail-dead-handler"
	headerDeadCause    = "dovetail-dead-cause"
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

var deadHeaders = []string{headerDeadGroup, headerDeadHandler, headerDeadCause, headerDeadError, headerDeadStack, headerDeadAttempts,
	headerDeadRequeues, headerDeadAt, headerDeadService, headerOrigChannel, headerOrigID, headerOrigSource, headerToken,
	headerDeadCut, headerDeadBody}

// Bounds of what is kept of an error, in bytes, so that a dead letter stays
// within what brokers take as headers.
const (
	maxDeadError = 2 << 10
	maxDeadStack = 6 << 10
)

// deadLetter makes t's dead letter.
func (b *groupConsumer) deadLetter(t *item) *driver.Message {
	d := DeadLetter{
		Message: t.in.Message, Service: b.s.name, Group: t.in.Group, Handler: t.in.Handler,
		Error: errText(t.err), Attempts: t.in.Attempt, Requeues: t.in.Requeues, At: now(), token: t.in.token,
	}
	if t.rare != nil {
		d.Cut, d.Body = t.rare.cut, t.rare.cutBody
	}
	var p *PanicError
	if errors.As(t.err, &p) {
		d.Stack = string(p.Stack)
	}
	return d.encode(DeadLetterChannel(d.Service))
}

// encode makes the dead letter the message that keeps it on a channel. Its id
// follows from the original's and from where it failed, so that one failure is
// kept once.
func (d *DeadLetter) encode(channel string) *driver.Message {
	m := *d.Message
	m.Channel = channel
	m.Transient = false
	m.Due = time.Time{}
	kind := "dead"
	if d.Cause == CauseUnhandled {
		kind = d.Cause
	} else {
		m.Timeout = 0 // a person looks at it whenever there is time
	}
	m.ID = deriveID(nil, d.Requeues, d.Message.Source, d.Message.ID, d.Group, d.Handler, kind)
	m.Source = d.Service
	m.Headers = d.identity(d.Message)
	for _, h := range []driver.Header{
		{Name: headerDeadCause, Value: d.Cause},
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

// identity is m's headers and behind them what finds the way back: to the
// original, and to the handler. What a sender wrote under these names is left out.
func (d *DeadLetter) identity(m *driver.Message) driver.Headers {
	h := make(driver.Headers, 0, len(m.Headers)+len(deadHeaders))
	h = withoutDead(append(h, m.Headers...))
	if len(d.Cut) > 0 {
		h = append(h, driver.Header{Name: headerDeadCut, Value: strings.Join(d.Cut, ",")})
	}
	if d.Body != "" {
		h = append(h, driver.Header{Name: headerDeadBody, Value: d.Body})
	}
	if d.token != "" {
		h = append(h, driver.Header{Name: headerToken, Value: d.token})
	}
	return append(h,
		driver.Header{Name: headerDeadService, Value: d.Service},
		driver.Header{Name: headerDeadGroup, Value: d.Group},
		driver.Header{Name: headerDeadHandler, Value: d.Handler},
		driver.Header{Name: headerDeadRequeues, Value: strconv.Itoa(d.Requeues)},
		driver.Header{Name: headerOrigChannel, Value: m.Channel},
		driver.Header{Name: headerOrigID, Value: m.ID},
		driver.Header{Name: headerOrigSource, Value: m.Source},
	)
}

func withoutDead(h driver.Headers) driver.Headers {
	for _, name := range deadHeaders {
		h = h.Without(name)
	}
	return h
}

// last is the value of the last header called name: ours stand behind whatever
// a sender wrote.
func last(h driver.Headers, name string) string {
	for _, p := range slices.Backward(h) {
		if strings.EqualFold(p.Name, name) {
			return p.Value
		}
	}
	return ""
}

// ParseDeadLetter reads a message of a dead letter channel.
func ParseDeadLetter(m *driver.Message) (DeadLetter, error) {
	h := m.Headers
	if _, ok := h.Lookup(headerDeadGroup); !ok {
		return DeadLetter{}, fmt.Errorf("message %s is no dead letter: header %s is missing", m.ID, headerDeadGroup)
	}
	d := DeadLetter{
		ID:       m.ID,
		Service:  last(h, headerDeadService),
		Group:    last(h, headerDeadGroup),
		Handler:  last(h, headerDeadHandler),
		Cause:    last(h, headerDeadCause),
		Error:    driver.UnescapeValue(last(h, headerDeadError)),
		Stack:    driver.UnescapeValue(last(h, headerDeadStack)),
		Attempts: atoi(last(h, headerDeadAttempts)),
		Requeues: atoi(last(h, headerDeadRequeues)),
		token:    last(h, headerToken),
	}
	if c := last(h, headerDeadCut); c != "" {
		d.Cut, d.Body = strings.Split(c, ","), last(h, headerDeadBody)
	}
	d.At, _ = time.Parse(time.RFC3339Nano, last(h, headerDeadAt))
	d.Message = original(m)
	return d, nil
}

// original is the message that a dead letter or a requeued message wraps.
func original(m *driver.Message) *driver.Message {
	o := *m
	o.Channel = last(m.Headers, headerOrigChannel)
	o.ID = last(m.Headers, headerOrigID)
	o.Source = last(m.Headers, headerOrigSource)
	o.Headers = withoutDead(append(driver.Headers(nil), m.Headers...))
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
	m.Timeout = 0 // it is asked for now, by somebody else
	m.ID = deriveID(nil, again.Requeues, d.Message.Source, d.Message.ID, d.Group, d.Handler, "requeue")
	m.Source = d.Service
	m.Headers = again.identity(d.Message)
	return &m
}

func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + " …"
}
