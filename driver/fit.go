package driver

import "fmt"

// A Fitter is a Conn whose engine counts the size of a message differently from
// Message.Size, or bounds a part of it: the encoded headers, or the body alone.
type Fitter interface {
	// Fits returns nil if m is not too large for the engine, and otherwise an
	// error that wraps ErrTooLarge and names the limit and the setting that raises
	// it. Send never refuses as too large what Fits accepts. Fits may count up to 1
	// KiB more than Send adds to a message. It does not block, does not change m, and
	// is safe for concurrent use.
	Fits(m *Message) error
}

// Fits returns an error that wraps ErrTooLarge if m is too large for c's engine:
// what c says where it is a Fitter, and otherwise by Message.Size and
// Capabilities.MaxBytes. The core calls it before it sends a message, and before it
// writes one to an outbox. It does not block.
func Fits(c Conn, m *Message) error {
	if f, ok := c.(Fitter); ok {
		return f.Fits(m)
	}
	caps := c.Capabilities()
	return caps.Fits(m)
}

// Fits returns an error that wraps ErrTooLarge if m.Size is more than MaxBytes.
func (c *Capabilities) Fits(m *Message) error {
	if n := m.Size(); c.MaxBytes > 0 && n > c.MaxBytes {
		return fmt.Errorf("%w: %d bytes with headers, and %s takes %d: send a reference to the data instead, or raise its limit",
			ErrTooLarge, n, c.Name, c.MaxBytes)
	}
	return nil
}
