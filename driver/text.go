package driver

import (
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"
)

// Bounds of attributes, in bytes. Every store can make an index entry of an id,
// a source, a group and a handler together.
const (
	MaxID     = 512  // Message.ID, CorrelationID, CausationID
	MaxSource = 255  // Message.Source
	MaxType   = 255  // Message.Type
	MaxKey    = 1024 // Message.Key
)

// ValidText returns an error unless s can be an attribute or a header value on
// every transport and in every store: valid UTF-8 without CR, LF and NUL.
func ValidText(s string) error {
	if printable(s) {
		return nil
	}
	for i := range len(s) {
		if c := s[i]; c <= '\r' && (c == '\r' || c == '\n' || c == 0) {
			return fmt.Errorf("byte %d is %q: text must be without CR, LF and NUL", i, c)
		}
	}
	if !utf8.ValidString(s) {
		return fmt.Errorf("not valid UTF-8: encode binary values, as in hex.EncodeToString")
	}
	return nil
}

// printable reports whether s is ASCII without control characters but DEL, which
// nearly all text is, eight bytes at a time: it is asked of every attribute of
// every message.
func printable(s string) bool {
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := uint64(s[i]) | uint64(s[i+1])<<8 | uint64(s[i+2])<<16 | uint64(s[i+3])<<24 |
			uint64(s[i+4])<<32 | uint64(s[i+5])<<40 | uint64(s[i+6])<<48 | uint64(s[i+7])<<56
		// The high bit of a byte that is beyond ASCII, or below a space.
		if (w|(w-0x2020202020202020))&0x8080808080808080 != 0 {
			return false
		}
	}
	for ; i < len(s); i++ {
		if s[i] < ' ' || s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// foreignPrefix begins the text that stands for bytes which are no text.
const foreignPrefix = "base64:"

// ForeignText returns the text that stands for bytes of a program that is not
// ours: a record key, a header value. Bytes that are valid text stay as they
// are; others become "base64:" and their standard base64 encoding. Every
// transport uses it, so that equal bytes are equal keys on all of them.
func ForeignText(b []byte) string {
	if s := string(b); ValidText(s) == nil {
		return s
	}
	return foreignPrefix + base64.StdEncoding.EncodeToString(b)
}

// ForeignBytes undoes ForeignText for a header value or a key that a transport
// hands on to its engine in the engine's own form. Text that did not come from
// ForeignText stays as it is.
func ForeignBytes(s string) []byte {
	if rest, ok := strings.CutPrefix(s, foreignPrefix); ok {
		if b, err := base64.StdEncoding.DecodeString(rest); err == nil && ForeignText(b) == s {
			return b
		}
	}
	return []byte(s)
}

// Foreign returns m, or, where an attribute or a header of it is no text, a copy
// in which ForeignText stands for it. Transports whose messages others can
// write hand out what it returns.
func Foreign(m *Message) *Message {
	if textOnly(m) {
		return m
	}
	c := *m
	for _, s := range [...]*string{&c.ID, &c.Source, &c.Type, &c.ContentType, &c.Key, &c.CorrelationID, &c.CausationID, &c.ReplyTo} {
		*s = ForeignText([]byte(*s))
	}
	c.Headers = append(Headers(nil), m.Headers...)
	for i, h := range c.Headers {
		c.Headers[i] = Header{ForeignText([]byte(h.Name)), ForeignText([]byte(h.Value))}
	}
	return &c
}

func textOnly(m *Message) bool {
	for _, s := range [...]string{m.ID, m.Source, m.Type, m.ContentType, m.Key, m.CorrelationID, m.CausationID, m.ReplyTo} {
		if ValidText(s) != nil {
			return false
		}
	}
	for _, h := range m.Headers {
		if ValidText(h.Name) != nil || ValidText(h.Value) != nil {
			return false
		}
	}
	return true
}
