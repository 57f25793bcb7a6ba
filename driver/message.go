package driver

import (
	"slices"
	"time"
)

// A Header is one name/value pair of a message's metadata. Names are compared
// without regard to case; Dovetail sends names of printable ASCII only. Values are
// any text that ValidText accepts.
type Header struct {
	Name, Value string
}

// Headers are a message's metadata beyond the attributes that [Message] has
// fields for, in the order in which they were received. A name may occur more than
// once. The methods do not change the slice, so that messages can share it.
type Headers []Header

// A Message is what travels over a channel: attributes, headers and a body. The
// fields from ID to Due are the CloudEvents 1.0 context attributes and Dovetail's
// extensions to them. A transport maps them to its own metadata in binary content
// mode (see [AppendAttributes] and [SetAttribute]), and carries Headers and Body
// unchanged, byte for byte.
//
// Once a message was passed to Conn.Send or returned by a Receiver, nobody
// changes it, nor what its Body and Headers point at: neither the sender nor the
// transport nor the consumer. So all of them may keep it and share it, in any
// goroutine. To change one, make a copy with Clone.
type Message struct {
	Channel string // where it travels; the name of a provisioned Channel

	// Transient says that Channel is a transient one (Channel.Transient). The
	// sender knows it from the contract, also where it has not provisioned the
	// channel itself, as with a caller's reply channel. The field is not sent.
	Transient bool

	ID            string        // "id": unique for one Source; with Source the message's identity
	Source        string        // "source": the service that sent it
	Type          string        // "type": contract name and major version, as in "ordering.order-placed.v1"
	Time          time.Time     // "time": when it was created, in UTC, to the microsecond
	ContentType   string        // "datacontenttype": media type of Body
	Key           string        // "partitionkey": messages of one key keep their order; empty for none
	CorrelationID string        // "correlationid": id of the message that began the conversation
	CausationID   string        // "causationid": id of the message that caused this one; of the request, in a reply
	ReplyTo       string        // "replyto": the channel on which an answer is awaited; empty for none
	Timeout       time.Duration // "timeout": how long after Time the sender waits for an answer, in milliseconds on the wire; 0 for no limit
	Due           time.Time     // "due": not to be delivered earlier; zero for at once. A transport needs Capabilities.Delay for it

	Headers Headers
	Body    []byte
}

// Size returns what m counts against byte limits: the lengths of its body, its
// headers, its channel's name and its text attributes, in bytes. Time, Timeout and
// Due do not count, nor do the names of attributes.
func (m *Message) Size() int {
	n := len(m.Body) + len(m.Channel) + len(m.ID) + len(m.Source) + len(m.Type) + len(m.ContentType) +
		len(m.Key) + len(m.CorrelationID) + len(m.CausationID) + len(m.ReplyTo)
	for _, h := range m.Headers {
		n += len(h.Name) + len(h.Value)
	}
	return n
}

// Clone returns a deep copy of m. The copy is the caller's, who may change it.
func (m *Message) Clone() *Message {
	c := *m
	c.Headers = append(Headers(nil), m.Headers...)
	c.Body = append([]byte(nil), m.Body...)
	return &c
}

// Get returns the value of the first header called name, without regard to
// case, and "" if there is none.
func (h Headers) Get(name string) string {
	v, _ := h.Lookup(name)
	return v
}

// Lookup is like Get; ok tells an empty value from a missing header.
func (h Headers) Lookup(name string) (value string, ok bool) {
	for i := range h {
		if equalFold(h[i].Name, name) {
			return h[i].Value, true
		}
	}
	return "", false
}

// With returns a copy of h in which the first header called name has that value,
// or with the pair at the end where h has no such header. h itself does not change.
func (h Headers) With(name, value string) Headers {
	for i := range h {
		if equalFold(h[i].Name, name) {
			c := slices.Clone(h)
			c[i].Value = value
			return c
		}
	}
	return append(h[:len(h):len(h)], Header{name, value})
}

// Without returns h without the headers called name: a copy, or h itself where it
// has none. h does not change.
func (h Headers) Without(name string) Headers {
	named := func(p Header) bool { return equalFold(p.Name, name) }
	if !slices.ContainsFunc(h, named) {
		return h
	}
	return slices.DeleteFunc(slices.Clone(h), named)
}

// equalFold is strings.EqualFold for ASCII, which header names are.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		x, y := a[i], b[i]
		if x == y {
			continue
		}
		if 'A' <= x && x <= 'Z' {
			x += 'a' - 'A'
		}
		if 'A' <= y && y <= 'Z' {
			y += 'a' - 'A'
		}
		if x != y {
			return false
		}
	}
	return true
}

// A Reply is an encoded answer to a request, as it is sent and as an inbox keeps it.
type Reply struct {
	Status      string // "" for an answer, "refused" for a refusal
	ContentType string
	Body        []byte
}
