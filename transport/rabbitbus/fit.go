package rabbitbus

import (
	"fmt"

	"github.com/dovetail-go/dovetail/driver"
)

// Fits implements driver.Fitter: the server bounds a message's body for itself,
// and its headers by the size of a frame, which Send knows.
func (c *Conn) Fits(m *driver.Message) error {
	if len(m.Body) > c.opts.MaxBytes {
		return fmt.Errorf("%w: a body of %d bytes, and option MaxBytes is %d: send a reference to the data instead, or raise it and the server's max_message_size",
			driver.ErrTooLarge, len(m.Body), c.opts.MaxBytes)
	}
	return nil
}
