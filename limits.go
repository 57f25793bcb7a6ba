package dovetail

import (
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// Limits bound what a message may be, at both ends: an outgoing message over
// them is refused, an incoming one becomes a dead letter. Zero fields stand for
// the defaults.
type Limits struct {
	Body        int // bytes; default 1 MiB
	Headers     int // how many; default 64
	HeaderBytes int // names, values and attributes together; default 16 KiB
}

func (l Limits) withDefaults() Limits {
	if l.Body == 0 {
		l.Body = 1 << 20
	}
	if l.Headers == 0 {
		l.Headers = 64
	}
	if l.HeaderBytes == 0 {
		l.HeaderBytes = 16 << 10
	}
	return l
}

// MaxDelay is how far ahead a message may be due.
const MaxDelay = 10 * 365 * 24 * time.Hour

// MaxTimeout is how long an answer may be awaited.
const MaxTimeout = 365 * 24 * time.Hour

// check returns an ErrInvalid that names what is over a limit or malformed in an
// outgoing message. What it takes every transport and every store can carry.
func (l *Limits) check(m *driver.Message) error {
	if err := l.checkIncoming(m); err != nil {
		return err
	}
	for i := range m.Headers {
		if name := m.Headers[i].Name; !validHeaderName(name) {
			return fmt.Errorf("%w: header name %q: want 1 to %d printable ASCII characters without space and colon", ErrInvalid, cut(name, 100), maxHeaderName)
		}
	}
	if err := driver.ValidName(m.Channel); err != nil {
		return fmt.Errorf("%w: channel %w", ErrInvalid, err)
	}
	if !m.Time.IsZero() && !writable(m.Time) {
		return fmt.Errorf("%w: time %v: want a year from 1 to 9999", ErrInvalid, m.Time)
	}
	if !m.Due.IsZero() && (!writable(m.Due) || time.Until(m.Due) > MaxDelay) {
		return fmt.Errorf("%w: due %v: want a time within ten years from now", ErrInvalid, m.Due)
	}
	if m.Timeout < 0 || m.Timeout > MaxTimeout {
		return fmt.Errorf("%w: timeout %v: want at most a year", ErrInvalid, m.Timeout)
	}
	return nil
}

// maxHeaderName is what AMQP takes.
const maxHeaderName = 255

func validHeaderName(name string) bool {
	if name == "" || len(name) > maxHeaderName {
		return false
	}
	for i := range len(name) {
		if c := name[i]; c <= ' ' || c >= 0x7f || c == ':' {
			return false
		}
	}
	return true
}

// writable reports whether RFC 3339 can tell the time.
func writable(t time.Time) bool {
	y := t.UTC().Year()
	return 1 <= y && y <= 9999
}

// checkIncoming is check for what comes in: foreign senders' header names are
// taken as they are.
func (l *Limits) checkIncoming(m *driver.Message) error {
	switch n := m.Size() - len(m.Body); {
	case len(m.Body) > l.Body:
		return fmt.Errorf("%w: body of %d bytes, limit %d: raise Options.Limits.Body here and where it is handled, or send a reference to the data", ErrInvalid, len(m.Body), l.Body)
	case len(m.Headers) > l.Headers:
		return fmt.Errorf("%w: %d headers, limit %d: raise Options.Limits.Headers here and where it is handled, or put the data into the body", ErrInvalid, len(m.Headers), l.Headers)
	case n > l.HeaderBytes:
		return fmt.Errorf("%w: headers of %d bytes, limit %d: raise Options.Limits.HeaderBytes here and where it is handled, or put the data into the body", ErrInvalid, n, l.HeaderBytes)
	}
	for _, a := range [...]struct {
		name, value string
		most        int
	}{
		{"id", m.ID, driver.MaxID}, {"source", m.Source, driver.MaxSource}, {"type", m.Type, driver.MaxType}, {"key", m.Key, driver.MaxKey},
		{"correlation id", m.CorrelationID, driver.MaxID}, {"causation id", m.CausationID, driver.MaxID},
		{"content type", m.ContentType, l.HeaderBytes}, {"reply channel", m.ReplyTo, l.HeaderBytes},
	} {
		if a.value == "" {
			continue
		}
		if len(a.value) > a.most {
			return fmt.Errorf("%w: %s of %d bytes, limit %d", ErrInvalid, a.name, len(a.value), a.most)
		}
		if err := driver.ValidText(a.value); err != nil {
			return fmt.Errorf("%w: %s %q: %w", ErrInvalid, a.name, cut(a.value, 100), err)
		}
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		if err := driver.ValidText(h.Name); err != nil {
			return fmt.Errorf("%w: header name %q: %w", ErrInvalid, cut(h.Name, 100), err)
		}
		if err := driver.ValidText(h.Value); err != nil {
			return fmt.Errorf("%w: header %s: %w", ErrInvalid, h.Name, err)
		}
	}
	return nil
}
