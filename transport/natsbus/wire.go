package natsbus

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
)

const (
	attributePrefix = "ce-"

	// escapedHeader carries a header that NATS would change or act on: one
	// whose value begins or ends with a space, whose name is no token, or that
	// speaks to the server ("Nats-…"). Its value is name=value, each escaped.
	escapedHeader = "dovetail-header"
)

// An encoder turns messages into nats.Msg, re-using one header map and one
// array of values for a whole batch: the client copies them out before its
// Publish returns (BenchmarkEncode).
type encoder struct {
	msg    nats.Msg
	attrs  driver.Headers
	values []string
	size   int // of the headers on the wire, in bytes
}

func newEncoder() *encoder {
	return &encoder{msg: nats.Msg{Header: make(nats.Header, 16)}, attrs: make(driver.Headers, 0, 16), values: make([]string, 0, 32)}
}

// encode returns m as a client's message without subject. What it returns is
// valid until the next call.
func (e *encoder) encode(m *driver.Message) *nats.Msg {
	clear(e.msg.Header)
	e.values, e.size = e.values[:0], len("NATS/1.0\r\n\r\n")
	e.attrs = driver.AppendAttributes(e.attrs[:0], attributePrefix, m, true)
	for i := range e.attrs {
		e.add(e.attrs[i].Name, driver.EscapeValue(e.attrs[i].Value))
	}
	wrap := wrapped(m)
	for i := range m.Headers {
		h := &m.Headers[i]
		if wrap != nil && wrap[h.Name] {
			e.add(escapedHeader, strings.ReplaceAll(driver.EscapeValue(h.Name), "=", "%3D")+"="+driver.EscapeValue(h.Value))
			continue
		}
		e.add(h.Name, h.Value)
	}
	e.msg.Data, e.msg.Reply, e.msg.Subject = m.Body, "", ""
	return &e.msg
}

// wrapped are the names of the headers that have to be wrapped: all of one name
// are, if one is, so that they keep their order.
func wrapped(m *driver.Message) (names map[string]bool) {
	hs := m.Headers
	for i := range hs {
		if !mustWrap(hs[i].Name, hs[i].Value) && (m.ContentType != "" || !strings.EqualFold(hs[i].Name, contentType)) {
			continue
		}
		if names == nil {
			names = map[string]bool{}
		}
		names[hs[i].Name] = true
	}
	return names
}

func (e *encoder) add(name, value string) {
	e.size += len(name) + len(value) + len(": \r\n")
	if have, ok := e.msg.Header[name]; ok {
		e.msg.Header[name] = append(have, value)
		return
	}
	e.values = append(e.values, value)
	n := len(e.values)
	e.msg.Header[name] = e.values[n-1 : n : n]
}

// mustWrap reports whether NATS would not carry the header through as it is.
func mustWrap(name, value string) bool {
	if name == "" || hasPrefixFold(name, "nats-") || hasPrefixFold(name, "status") || hasPrefixFold(name, "description") ||
		strings.EqualFold(name, escapedHeader) || known(name) {
		return true
	}
	for i := range len(name) {
		if !inToken(name[i]) {
			return true
		}
	}
	if value == "" {
		return false
	}
	first, last := value[0], value[len(value)-1]
	return first <= ' ' || last <= ' ' || strings.ContainsAny(value, "\r\n\x00")
}

// inToken reports whether the client takes c in the name of a header: RFC 9110's
// characters of a token.
func inToken(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

// known reports whether name is that of an attribute of ours.
func known(name string) bool {
	return hasPrefixFold(name, attributePrefix) && driver.IsAttribute(lower(name[len(attributePrefix):]))
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}

// decode fills m from a client's message. What cannot be read is returned as
// the fault; m then holds the rest.
func decode(m *driver.Message, channel string, header nats.Header, body []byte) (fault error) {
	m.Channel, m.Body = channel, body
	foreign := 0
	for name, values := range header {
		if !strings.HasPrefix(name, attributePrefix) && !hasPrefixFold(name, attributePrefix) {
			if name != nats.MsgIdHdr {
				foreign += len(values)
			}
			continue
		}
		value, undecoded := "", error(nil)
		if len(values) > 0 {
			value, undecoded = attributeText(values[0])
		}
		ok, err := driver.SetAttribute(m, lower(name[len(attributePrefix):]), value)
		if ok && err == nil {
			err = undecoded
		}
		if err != nil {
			fault = fmt.Errorf("header %s: %w", name, err)
		}
		if !ok || err != nil {
			foreign += len(values)
		}
	}
	if foreign > 0 && m.ContentType == "" {
		m.ContentType = typeOfOthers(header)
	}
	if foreign > 0 {
		m.Headers = appendForeign(make(driver.Headers, 0, foreign), header, fault != nil)
	}
	return fault
}

// appendForeign appends the headers that are no attributes of ours, by name,
// and for each name in the order in which they came.
func appendForeign(dst driver.Headers, header nats.Header, faulty bool) driver.Headers {
	for name, values := range header {
		switch {
		case name == nats.MsgIdHdr:
			continue
		case strings.EqualFold(name, escapedHeader):
			for _, v := range values {
				n, v, _ := strings.Cut(v, "=")
				dst = append(dst, driver.Header{Name: text(driver.UnescapeValue(n)), Value: text(driver.UnescapeValue(v))})
			}
			continue
		case !faulty && known(name):
			continue
		}
		for _, v := range values {
			dst = append(dst, driver.Header{Name: text(name), Value: text(v)})
		}
	}
	slices.SortStableFunc(dst, func(a, b driver.Header) int { return strings.Compare(a.Name, b.Name) })
	return dst
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
