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
