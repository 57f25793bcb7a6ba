package rabbitbus

import (
	"fmt"
	"strings"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// CloudEvents attributes are headers with this prefix. RabbitMQ's own binding
// says cloudEvents_; the one for AMQP 1.0 says cloudEvents:, which is read too.
const (
	attributePrefix = "cloudEvents_"
	otherPrefix     = "cloudEvents:"
)

// escapedHeader carries headers that the server would act on or a reader would
// take for something else: CC and BCC, which send copies, what the server
// counts in, and names of attributes. Its value is a list of name=value.
const escapedHeader = "dovetail-header"

// maxShort is how long a short string of AMQP may be, in bytes: the name of a
// header, and a property.
const maxShort = 255

// An encoder turns messages into publishings, re-using one table for a whole
// batch: the client has written it out before its Publish returns.
type encoder struct {
	table amqp.Table
	attrs driver.Headers
}

var encoders = sync.Pool{New: func() any { return &encoder{amqp.Table{}, make(driver.Headers, 0, 16)} }}

// encode returns m as a publishing, valid until the next call. frame is the
// largest that the server takes; stamped gives it something to be found by.
func (e *encoder) encode(m *driver.Message, frame int, stamped bool) (amqp.Publishing, error) {
	clear(e.table)
	p := amqp.Publishing{DeliveryMode: amqp.Persistent, ContentType: m.ContentType, Body: m.Body, Headers: e.table}
	e.attrs = driver.AppendAttributes(e.attrs[:0], attributePrefix, m, len(m.ContentType) > maxShort)
	if len(m.ContentType) > maxShort {
		p.ContentType = ""
	}
	if len(m.ID) <= maxShort {
		p.MessageId = m.ID // by which a message that comes back is known again
	}
	size := 64 + len(p.ContentType) + len(p.MessageId)
	if stamped {
		e.table[stampHeader] = newStamp()
		size += len(stampHeader) + 10
	}
	for i := range e.attrs {
		e.table[e.attrs[i].Name] = e.attrs[i].Value
		size += fieldSize(&e.attrs[i])
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		if len(h.Name) > maxShort {
			return p, fmt.Errorf("rabbitbus: send to %s: %w: the name of header %.40q… has %d bytes and AMQP takes %d", m.Channel, driver.ErrTooLarge, h.Name, len(h.Name), maxShort)
		}
		size += fieldSize(h) + len(escapedHeader)
		e.add(h.Name, h.Value)
	}
	if frame > 0 && size > frame {
		return p, fmt.Errorf("rabbitbus: send to %s: %w: its headers take %d bytes and must fit the server's frame_max of %d", m.Channel, driver.ErrTooLarge, size, frame)
	}
	return p, nil
}

// fieldSize is what a header takes on the wire.
func fieldSize(h *driver.Header) int { return 1 + len(h.Name) + 1 + 4 + len(h.Value) }

// add puts a header into the table. One that occurs more than once becomes a
// list, under the name that came first.
func (e *encoder) add(name, value string) {
	if mustEscape(name) {
		name, value = escapedHeader, name+"="+value
		list, _ := e.table[name].([]any)
		e.table[name] = append(list, value)
		return
	}
	field := any(value)
	if strings.HasPrefix(value, "base64:") { // what a program of others has as bytes
		if b := driver.ForeignBytes(value); string(b) != value {
			field = b
		}
	}
	have, met := e.table[name]
	if !met {
		e.table[name] = field
		return
	}
	if list, ok := have.([]any); ok {
		e.table[name] = append(list, field)
		return
	}
	e.table[name] = []any{have, field}
}

// mustEscape reports whether a header of that name means something of its own
// to the server or to decode.
func mustEscape(name string) bool {
	switch {
	case strings.EqualFold(name, "CC"), strings.EqualFold(name, "BCC"), strings.EqualFold(name, escapedHeader),
		isServers(name):
		return true
	case hasPrefixFold(name, attributePrefix), hasPrefixFold(name, otherPrefix):
		return driver.IsAttribute(strings.ToLower(name[len(attributePrefix):]))
	}
	return false
}

// isServers reports whether headers of that name are written on the way, by the
// server or by encode.
func isServers(name string) bool {
	if !hasPrefixFold(name, "x-") && !hasPrefixFold(name, stampHeader) {
		return false
	}
	switch strings.ToLower(name) {
	case stampHeader, "x-delivery-count", "x-acquired-count", "x-death", "x-first-death-exchange", "x-first-death-queue", "x-first-death-reason",
		"x-last-death-exchange", "x-last-death-queue", "x-last-death-reason":
		return true
	}
	return false
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
