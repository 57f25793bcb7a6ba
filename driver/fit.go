package driver

import "fmt"

// A Fitter is a Conn whose engine counts a message otherwise than Message.Size
// does, or bounds parts of it: headers in their encoded form, the body alone.
type Fitter interface {
	// Fits returns an error that wraps ErrTooLarge, and names the limit and what
	// raises it, if the engine would refuse m for its size. It does not block. It
	// takes nothing that Send refuses as too large; what Send adds to a message
	// it may count with up to 1 KiB too much.
	Fits(m *Message) error
}

// Fits returns an error that wraps ErrTooLarge if m is larger than c's engine
// takes: by its Fitter where c has one, and otherwise by Message.Size and
// Capabilities.MaxBytes. The core asks before it sends a message or writes it to
// an outbox.
func Fits(c Conn, m *Message) error {
	if f, ok := c.(Fitter); ok {
		return f.Fits(m)
	}
	caps := c.Capabilities()
	return caps.Fits(m)
}

// Fits returns an error that wraps ErrTooLarge if m is larger than MaxBytes.
func (c *Capabilities) Fits(m *Message) error {
	if n := m.Size(); c.MaxBytes > 0 && n > c.MaxBytes {
		return fmt.Errorf("%w: %d bytes with headers, and %s takes %d: send a reference to the data instead, or raise its limit",
			ErrTooLarge, n, c.Name, c.MaxBytes)
	}
	return nil
}
