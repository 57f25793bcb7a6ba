package natsbus

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
)

// text is the value of a header as others sent it: bytes that are no text become
// text that stands for them.
func text(s string) string {
	if driver.ValidText(s) == nil {
		return s
	}
	return driver.ForeignText([]byte(s))
}

// attributeText is an attribute's value without the quotes and the percent-encoding
// of the binding (NATS protocol binding 1.0.2, section 3.1.3.2): one round of
// decoding, whoever sent it, since the value does not say whether it was encoded.
// A '%' that begins no escape stays. Escapes that are no UTF-8 are refused.
func attributeText(s string) (string, error) {
	decoded := driver.UnescapeValue(unquoted(s))
	if utf8.ValidString(s) && !utf8.ValidString(decoded) {
		return text(s), fmt.Errorf("%q is percent-encoded, and not of UTF-8: have its sender encode UTF-8", s)
	}
	return text(decoded), nil
}

// unquoted is the text of a quoted string (RFC 7230, section 3.2.6), which older
// versions of the binding had, and any other value as it is.
func unquoted(s string) string {
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return s
	}
	inner := s[1 : len(s)-1]
	if !strings.ContainsAny(inner, `\"`) {
		return inner
	}
	b := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); i++ {
		switch {
		case inner[i] == '"':
			return s // it ends before the value does: no quoted string
		case inner[i] == '\\' && i+1 == len(inner):
			return s // it does not end
		case inner[i] == '\\':
			i++
		}
		b = append(b, inner[i])
	}
	return string(b)
}

// contentType is the header, in any case, in which CloudEvents in structured mode
// say what the body is (NATS protocol binding 1.0.2, section 3.2), and others do
// as well. It is no attribute's: what we send has it only where a user set it.
const contentType = "content-type"

// typeOfOthers is the media type of a message that does not say it as we do.
func typeOfOthers(header nats.Header) string {
	for name, v := range header {
		if strings.EqualFold(name, contentType) && len(v) > 0 {
			return text(v[0])
		}
	}
	return ""
}

// identity is the value by which the server drops a second copy: a hash of all
// that tells one message of a source from another, so that an event that bears
// the id of another type of event is none. Who knows all of it can still take
// the place of a message.
func identity(m *driver.Message) string {
	if m.ID == "" {
		return ""
	}
	b := make([]byte, 0, 256)
	for _, part := range [...]string{m.Source, m.ID, m.Type, m.Channel} {
		b = append(b, part...)
		b = append(b, 0) // in no text
	}
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:18])
}
