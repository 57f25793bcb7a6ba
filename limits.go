package dovetail

import (
	"fmt"
	"strings"

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

// check returns an ErrInvalid that names what is over a limit or malformed in
// an outgoing message.
func (l *Limits) check(m *driver.Message) error {
	if err := l.checkIncoming(m); err != nil {
		return err
	}
	for _, h := range m.Headers {
		if h.Name == "" || strings.ContainsAny(h.Name, ": ") {
			return fmt.Errorf("%w: header name %q", ErrInvalid, h.Name)
		}
	}
	return nil
}

// breaksLine reports whether s holds CR, LF or NUL. It is on the path of every
// message, where strings.ContainsAny costs several times as much.
func breaksLine(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= '\r' && (c == '\r' || c == '\n' || c == 0) {
			return true
		}
	}
	return false
}

// checkIncoming is check for what comes in: foreign senders' header names are
// taken as they are.
func (l *Limits) checkIncoming(m *driver.Message) error {
	switch n := m.Size() - len(m.Body); {
	case len(m.Body) > l.Body:
		return fmt.Errorf("%w: body of %d bytes, limit %d (Options.Limits.Body)", ErrInvalid, len(m.Body), l.Body)
	case len(m.Headers) > l.Headers:
		return fmt.Errorf("%w: %d headers, limit %d", ErrInvalid, len(m.Headers), l.Headers)
	case n > l.HeaderBytes:
		return fmt.Errorf("%w: headers of %d bytes, limit %d", ErrInvalid, n, l.HeaderBytes)
	}
	for _, a := range [...]string{m.ID, m.Source, m.Key, m.CorrelationID, m.CausationID} {
		if breaksLine(a) {
			return fmt.Errorf("%w: attribute %q has CR, LF or NUL", ErrInvalid, a)
		}
	}
	for i := range m.Headers {
		if h := &m.Headers[i]; breaksLine(h.Name) || breaksLine(h.Value) {
			return fmt.Errorf("%w: header %q has CR, LF or NUL", ErrInvalid, h.Name)
		}
	}
	return nil
}
