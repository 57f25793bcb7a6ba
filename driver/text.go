package driver

import (
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"
)

// The most bytes that an attribute may have. Every store can index an id, a source,
// a group and a handler of this size together.
const (
	MaxID     = 512  // Message.ID, CorrelationID, CausationID
	MaxSource = 255  // Message.Source
	MaxType   = 255  // Message.Type
	MaxKey    = 1024 // Message.Key
)

// ValidText returns nil if s can be an attribute or a header value on every
// transport and in every store: valid UTF-8 without CR, LF and NUL. Otherwise it
// returns an error that says what is wrong. The empty text is valid.
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

// ForeignText returns a text for bytes that a program without Dovetail wrote, such as
// a record key or a header value. Bytes that ValidText accepts are the text
// themselves; others become "base64:" and their standard base64 encoding. Every
// transport uses it, so that equal bytes are equal keys everywhere.
func ForeignText(b []byte) string {
	if s := string(b); ValidText(s) == nil {
		return s
	}
	return foreignPrefix + base64.StdEncoding.EncodeToString(b)
}

// ForeignBytes undoes ForeignText, for a header value or a key that a transport
// gives to its engine in the engine's own form. It returns the bytes of the text
// itself where ForeignText would not have made it.
func ForeignBytes(s string) []byte {
	if rest, ok := strings.CutPrefix(s, foreignPrefix); ok {
		if b, err := base64.StdEncoding.DecodeString(rest); err == nil && ForeignText(b) == s {
			return b
		}
	}
	return []byte(s)
}

// Foreign returns m where all its attributes and headers are text that ValidText
// accepts, and otherwise a copy in which ForeignText replaces those that are not. m
// does not change; the copy shares the body. Transports whose engine does not check
// what senders write pass every message through it.
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
