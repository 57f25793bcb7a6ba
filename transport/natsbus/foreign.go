package natsbus

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"

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

// attributeText is an attribute's value without its percent-encoding. A value
// that cannot have been encoded, since it has bytes that would have been or a
// '%' that begins no escape, is taken as it is: sdk-go does not encode.
func attributeText(s string) string {
	if strings.IndexByte(s, '%') >= 0 && encoded(s) {
		s = driver.UnescapeValue(s)
	}
	return text(s)
}

func encoded(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c <= ' ' || c >= 0x7f || c == '"':
			return false
		case c == '%':
			if i+2 >= len(s) || !isHex(s[i+1]) || !isHex(s[i+2]) {
				return false
			}
			i += 2
		}
	}
	return true
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
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
