package driver

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"
)

// SpecVersion is the version of CloudEvents whose attribute names travel on
// the wire (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/spec.md).
const SpecVersion = "1.0"

// AppendAttributes appends m's context attributes to dst and returns the result,
// as append does. Each name is the attribute's with prefix before it (NATS "ce-",
// Kafka "ce_", AMQP "cloudEvents:"). specversion comes first; empty attributes are
// left out, and so is the content type where contentType is false, for bindings
// that carry it in a property of their own. Times are RFC 3339 in UTC, the time-out
// is in milliseconds, at least 1. Values are not escaped: NATS and HTTP escape
// them with [EscapeValue]. It is safe for concurrent use.
func AppendAttributes(dst Headers, prefix string, m *Message, contentType bool) Headers {
	names := prefixed(prefix)
	add := func(a attribute, value string) {
		if value != "" {
			dst = append(dst, Header{names[a], value})
		}
	}
	add(specVersion, SpecVersion)
	add(id, m.ID)
	add(source, m.Source)
	add(typ, m.Type)
	if !m.Time.IsZero() {
		add(created, m.Time.UTC().Format(time.RFC3339Nano))
	}
	if contentType {
		add(dataContentType, m.ContentType)
	}
	add(partitionKey, m.Key)
	add(correlationID, m.CorrelationID)
	add(causationID, m.CausationID)
	add(replyTo, m.ReplyTo)
	if m.Timeout > 0 {
		add(timeout, strconv.FormatInt(max(1, m.Timeout.Milliseconds()), 10))
	}
	if !m.Due.IsZero() {
		add(due, m.Due.UTC().Format(time.RFC3339Nano))
	}
	return dst
}

type attribute int

const (
	specVersion attribute = iota
	id
	source
	typ
	created
	dataContentType
	partitionKey
	correlationID
	causationID
	replyTo
	timeout
	due
	attributes // how many
)

var attributeNames = [attributes]string{"specversion", "id", "source", "type", "time", "datacontenttype", "partitionkey",
	"correlationid", "causationid", "replyto", "timeout", "due"}

// IsAttribute reports whether name, in lower case and without a prefix, is the
// name of specversion or of an attribute that Message has a field for.
func IsAttribute(name string) bool {
	for _, known := range attributeNames {
		if name == known {
			return true
		}
	}
	return false
}

// prefixed returns the attributes' names under a prefix. Transports use one or
// two prefixes, and a name is needed for every attribute of every message.
func prefixed(prefix string) *[attributes]string {
	if names, ok := prefixes.Load(prefix); ok {
		return names.(*[attributes]string)
	}
	names := attributeNames
	for i := range names {
		names[i] = prefix + names[i]
	}
	prefixes.Store(prefix, &names)
	return &names
}

var prefixes sync.Map // prefix → *[attributes]string

// SetAttribute sets the field of m for the context attribute called name, in lower
// case and without a prefix. known says whether it is an attribute as IsAttribute
// has it; one that is not known leaves m unchanged, and the caller keeps it as a
// header. A value that cannot be read (a time, a number of milliseconds up to a
// year, a specversion other than 1.x) is an error, with known true, and leaves m
// unchanged.
func SetAttribute(m *Message, name, value string) (known bool, err error) {
	switch name {
	case "specversion":
		if value != SpecVersion && !strings.HasPrefix(value, "1.") {
			return true, fmt.Errorf("cloudevents specversion %q is not 1.x", value)
		}
	case "id":
		m.ID = value
	case "source":
		m.Source = value
	case "type":
		m.Type = value
	case "time":
		t, err := time.Parse(time.RFC3339Nano, value)
		if err != nil {
			return true, fmt.Errorf("attribute time: %w", err)
		}
		m.Time = t.UTC()
	case "datacontenttype":
		m.ContentType = value
	case "partitionkey":
		m.Key = value
	case "correlationid":
		m.CorrelationID = value
	case "causationid":
		m.CausationID = value
	case "replyto":
		m.ReplyTo = value
	case "timeout":
		ms, err := strconv.ParseInt(value, 10, 64)
		if err != nil || ms < 0 || ms > int64(365*24*time.Hour/time.Millisecond) {
			return true, fmt.Errorf("attribute timeout: %q is not a number of milliseconds", value)
		}
		m.Timeout = time.Duration(ms) * time.Millisecond
	case "due":
		t, err := time.Parse(time.RFC3339Nano, value)
		if err != nil {
			return true, fmt.Errorf("attribute due: %w", err)
		}
		m.Due = t.UTC()
	default:
		return false, nil
	}
	return true, nil
}

// EscapeValue percent-encodes those bytes of s that the HTTP and NATS bindings of
// CloudEvents require: space, double quote, percent, and everything outside
// printable ASCII (HTTP protocol binding 1.0.2, section 3.1.3.2).
func EscapeValue(s string) string {
	clean := true
	for i := range len(s) {
		if mustEscape(s[i]) {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	const hex = "0123456789ABCDEF"
	b := make([]byte, 0, len(s)+16)
	for i := range len(s) {
		if c := s[i]; mustEscape(c) {
			b = append(b, '%', hex[c>>4], hex[c&15])
		} else {
			b = append(b, c)
		}
	}
	return string(b)
}

func mustEscape(c byte) bool { return c <= ' ' || c >= 0x7f || c == '"' || c == '%' }

// UnescapeValue undoes EscapeValue. A percent sign that begins no valid escape
// stays as it is, so that no sender's value is refused.
func UnescapeValue(s string) string {
	if strings.IndexByte(s, '%') < 0 {
		return s
	}
	b := make([]byte, 0, len(s))
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			hi, ok1 := unhex(s[i+1])
			lo, ok2 := unhex(s[i+2])
			if ok1 && ok2 {
				b = append(b, hi<<4|lo)
				i += 2
				continue
			}
		}
		b = append(b, s[i])
	}
	return string(b)
}

func unhex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}
