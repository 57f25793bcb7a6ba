package kafkabus

import (
	"fmt"
	"strings"
	"unicode/utf8"
	"unsafe"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The CloudEvents Kafka binding, binary mode: attributes are headers "ce_…", the
// content type has its own
// (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/kafka-protocol-binding.md).
const (
	attributePrefix   = "ce_"
	contentTypeHeader = "content-type"

	// escapedHeader carries a header of the message whose name is one that we
	// give a meaning to. Its value is name=value, both escaped.
	escapedHeader = "dovetail-header"

	// channelHeader names the channel where its topic carries several.
	channelHeader = "dovetail-channel"

	// removedHeader marks the record that takes another out of a topic that is
	// compacted: its key is the other's, and it has no value.
	removedHeader = "dovetail-removed"
)

// An encoder turns messages into records. Everything that a record points at is
// copied into its arena, so that the client underneath may still write a record
// after Send has given it up and its caller has the message back. Both are used
// again when every record is done with (BenchmarkEncode).
type encoder struct {
	records []kgo.Record
	headers []kgo.RecordHeader
	arena   []byte
	attrs   driver.Headers
}

// grow makes room for messages, so that no slice into the arena moves.
func (e *encoder) grow(ms []*driver.Message) {
	bytes, headers := 0, 0
	for _, m := range ms {
		bytes += m.Size() + len(m.Key) + len(m.Channel) + 128
		headers += len(m.Headers) + 13
	}
	if cap(e.records) < len(ms) {
		e.records = make([]kgo.Record, 0, len(ms))
	}
	if cap(e.headers) < headers {
		e.headers = make([]kgo.RecordHeader, 0, headers)
	}
	if cap(e.arena) < bytes {
		e.arena = make([]byte, 0, bytes)
	}
}

// reset forgets the records and what they point at.
func (e *encoder) reset() {
	clear(e.records)
	clear(e.headers)
	clear(e.attrs)
	e.records, e.headers, e.arena, e.attrs = e.records[:0], e.headers[:0], e.arena[:0], e.attrs[:0]
}

// encode appends m as a record for topic.
func (e *encoder) encode(m *driver.Message, topic string) *kgo.Record {
	first := len(e.headers)
	e.attrs = driver.AppendAttributes(e.attrs[:0], attributePrefix, m, false)
	for i := range e.attrs {
		e.header(e.attrs[i].Name, e.attrs[i].Value)
	}
	if m.ContentType != "" {
		e.header(contentTypeHeader, m.ContentType)
	}
	if topic != m.Channel {
		e.header(channelHeader, m.Channel)
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		if ours(h.Name) {
			e.header(escapedHeader, driver.EscapeValue(strings.ReplaceAll(h.Name, "=", "%3D"))+"="+driver.EscapeValue(h.Value))
			continue
		}
		// A header's name is kept by the record as it is: a string never changes.
		e.headers = append(e.headers, kgo.RecordHeader{Key: h.Name, Value: e.copyForeign(h.Value)})
	}
	e.records = append(e.records, kgo.Record{Topic: topic, Headers: e.headers[first:len(e.headers):len(e.headers)]})
	r := &e.records[len(e.records)-1]
	r.Value = e.copy(m.Body)
	switch {
	case isDead(topic) && m.ID != "":
		r.Key = e.copyString(m.ID) // what compaction goes by
	case m.Key != "":
		r.Key = e.copyForeign(m.Key)
	}
	return r
}

func (e *encoder) header(name, value string) {
	e.headers = append(e.headers, kgo.RecordHeader{Key: name, Value: e.copyString(value)})
}

// copy never returns nil: a record without value is a tombstone.
func (e *encoder) copy(b []byte) []byte {
	at := len(e.arena)
	e.arena = append(e.arena, b...)
	return e.arena[at:len(e.arena):len(e.arena)]
}

func (e *encoder) copyString(s string) []byte {
	at := len(e.arena)
	e.arena = append(e.arena, s...)
	return e.arena[at:len(e.arena):len(e.arena)]
}

// copyForeign is copyString for what others may have sent: bytes that are no text
// go out as they came, so that a key stays in its partition.
func (e *encoder) copyForeign(s string) []byte {
	if !strings.HasPrefix(s, "base64:") {
		return e.copyString(s)
	}
	at := len(e.arena)
	e.arena = append(e.arena, driver.ForeignBytes(s)...) // never more than s
	return e.arena[at:len(e.arena):len(e.arena)]
}

// ours reports whether we give a meaning to a header of that name.
func ours(name string) bool {
	if prefixed(name) {
		return driver.IsAttribute(lower(name[len(attributePrefix):]))
	}
	return strings.EqualFold(name, contentTypeHeader) ||
		len(name) > 9 && strings.EqualFold(name[:9], "dovetail-") &&
			(strings.EqualFold(name, escapedHeader) || strings.EqualFold(name, channelHeader) || strings.EqualFold(name, removedHeader))
}

// decode fills m from a record. Keys and values that are no text, as programs of
// others have them, are carried as driver.ForeignText. An attribute that cannot be
// read is returned as the fault; m then holds the rest, with the attribute among its
// headers. What m holds is copied into room, which has sizeOf(r) bytes left: the
// client's buffer is that of a whole fetch, and one message that is held must not
// keep it.
func decode(m *driver.Message, channel string, r *kgo.Record, room []byte) (fault error) {
	d := decoder{room}
	m.Channel, m.Body = channel, d.copy(r.Value)
	for i := range r.Headers {
		h := &r.Headers[i]
		ok, err := d.attribute(m, h)
		if err != nil {
			fault = err
		}
		if ok {
			continue
		}
		if m.Headers == nil {
			m.Headers = make(driver.Headers, 0, len(r.Headers)-i) // attributes come first
		}
		name, value := textOf(h.Key), d.text(h.Value)
		if name == escapedHeader {
			// The name was escaped twice, so that its "=" was none.
			name, value, _ = strings.Cut(value, "=")
			name, value = textOf(driver.UnescapeValue(driver.UnescapeValue(name))), textOf(driver.UnescapeValue(value))
		}
		m.Headers = append(m.Headers, driver.Header{Name: name, Value: value})
	}
	if m.Key == "" && len(r.Key) > 0 && !isDead(channel) {
		m.Key = d.text(r.Key)
	}
	return fault
}

// attribute sets the field of m that a header stands for, and reports whether it
// has done so, or the header is none of the message's.
func (d *decoder) attribute(m *driver.Message, h *kgo.RecordHeader) (ok bool, err error) {
	name := h.Key
	if prefixed(name) {
		attr := lower(name[len(attributePrefix):])
		if ok, err = driver.SetAttribute(m, attr, d.text(h.Value)); err != nil {
			return false, fmt.Errorf("header %s: %w", name, err)
		}
		return ok, nil // an extension that we do not know stays a header
	}
	switch {
	case name == contentTypeHeader, len(name) == len(contentTypeHeader) && strings.EqualFold(name, contentTypeHeader):
		m.ContentType = d.text(h.Value)
		return true, nil
	case name == channelHeader, name == removedHeader:
		return true, nil
	}
	return false, nil
}

// prefixed reports whether a header's name begins as attributes do.
func prefixed(name string) bool {
	return len(name) > len(attributePrefix) && name[2] == '_' && name[0]|0x20 == 'c' && name[1]|0x20 == 'e'
}

// A decoder copies what it reads of one record into one piece of memory. A piece
// for each of some ten headers would cost as much as all the rest (BenchmarkDecode).
type decoder struct{ arena []byte }

func (d *decoder) copy(b []byte) []byte {
	at := len(d.arena)
	d.arena = append(d.arena, b...) // there is room: nothing moves
	return d.arena[at:len(d.arena):len(d.arena)]
}

// text is b as text.
func (d *decoder) text(b []byte) string {
	b = d.copy(b)
	return textOf(unsafe.String(unsafe.SliceData(b), len(b)))
}

// textOf is driver.ForeignText, which copies, for a string.
func textOf(s string) string {
	for i := range len(s) {
		if s[i] >= ' ' && s[i] < utf8.RuneSelf {
			continue // nearly all there is: one pass, not ValidText's two
		}
		if driver.ValidText(s) == nil {
			return s
		}
		return driver.ForeignText([]byte(s))
	}
	return s
}

// lower is strings.ToLower without a copy for what is lower case already, as
// attribute names are.
func lower(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			return strings.ToLower(s)
		}
	}
	return s
}
