package natsbus

import (
	"fmt"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
)

// Fits implements driver.Fitter: the server counts a message's headers as they
// are on the wire, and bounds them for themselves.
func (c *Conn) Fits(m *driver.Message) error {
	limit := c.nc.MaxPayload()
	attributes := m.Size() - len(m.Body)
	if most := 3*attributes + maxOverhead*(len(m.Headers)+1); most <= maxHeader && int64(most+len(m.Body)) <= limit {
		return nil
	}
	enc := fitEncoders.Get().(*encoder)
	defer fitEncoders.Put(enc)
	enc.encode(m)
	enc.add(nats.MsgIdHdr, identity(m))
	if enc.size > maxHeader {
		return fmt.Errorf("%w: its headers take %d bytes and NATS stores %d: put the data into the body", driver.ErrTooLarge, enc.size, maxHeader)
	}
	if size := enc.size + len(m.Body); int64(size) > limit {
		return fmt.Errorf("%w: %d bytes with headers, and the server takes %d: send a reference to the data instead, or raise its max_payload",
			driver.ErrTooLarge, size, limit)
	}
	return nil
}

// maxOverhead is more than what the wire format adds to a header, and to all
// attributes together with the message's identity.
const maxOverhead = 1024

var fitEncoders = sync.Pool{New: func() any { return newEncoder() }}
