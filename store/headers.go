package store

import (
	"bytes"
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// AppendHeaders appends what a row keeps of m besides its own columns (id,
// channel, key, body) to dst, as text that a person can read: a line "name:
// value" for each context attribute, an empty line, and a line for each header.
// CR, LF and NUL, which no attribute or header may have, are an error.
func AppendHeaders(dst []byte, m *driver.Message) ([]byte, error) {
	start := len(dst)
	lines := 1
	add := func(name, value string) {
		lines++
		dst = append(dst, name...)
		dst = append(dst, ": "...)
		dst = append(dst, value...)
		dst = append(dst, '\n')
	}
	attribute := func(name, value string) {
		if value != "" {
			add(name, value)
		}
	}
	attribute("source", m.Source)
	attribute("type", m.Type)
	if !m.Time.IsZero() {
		add("time", m.Time.UTC().Format(time.RFC3339Nano))
	}
	attribute("datacontenttype", m.ContentType)
	attribute("correlationid", m.CorrelationID)
	attribute("causationid", m.CausationID)
	attribute("replyto", m.ReplyTo)
	if m.Timeout > 0 {
		add("timeout", strconv.FormatInt(max(1, m.Timeout.Milliseconds()), 10))
	}
	if !m.Due.IsZero() {
		add("due", m.Due.UTC().Format(time.RFC3339Nano))
	}
	if m.Transient {
		add("transient", "true")
	}
	dst = append(dst, '\n')
	for _, h := range m.Headers {
		if h.Name == "" || strings.Contains(h.Name, ":") {
			return nil, fmt.Errorf("message %s: header name %q", m.ID, h.Name)
		}
		add(h.Name, h.Value)
	}
	if text := dst[start:]; bytes.Count(text, []byte{'\n'}) != lines || bytes.IndexByte(text, '\r') >= 0 || bytes.IndexByte(text, 0) >= 0 {
		return nil, fmt.Errorf("message %s: an attribute or header has CR, LF or NUL", m.ID)
	}
	return dst, nil
}

// ParseHeaders undoes AppendHeaders. An attribute that it does not know, from a
// newer version, becomes a header.
func ParseHeaders(m *driver.Message, text string) error {
	attributes := true
	for len(text) > 0 {
		line, rest, _ := strings.Cut(text, "\n")
		text = rest
		if line == "" {
			if n := strings.Count(text, "\n"); n > 0 {
				m.Headers = make(driver.Headers, 0, n)
			}
			attributes = false
			continue
		}
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			return fmt.Errorf("message %s: stored header %q has no colon", m.ID, line)
		}
		if attributes {
			if name == "transient" {
				m.Transient = value == "true"
				continue
			}
			known, err := driver.SetAttribute(m, name, value)
			if err != nil {
				return fmt.Errorf("message %s: %w", m.ID, err)
			}
			if known {
				continue
			}
		}
		m.Headers = append(m.Headers, driver.Header{Name: name, Value: value})
	}
	return nil
}

// Shard returns the shard of n that m belongs to: by channel and key, so that
// the order by key stays with one relay; by id where there is no key.
func Shard(m *driver.Message, n int) int {
	if n <= 1 {
		return 0
	}
	h := fnv.New32a()
	h.Write([]byte(m.Channel))
	h.Write([]byte{0})
	if m.Key != "" {
		h.Write([]byte(m.Key))
	} else {
		h.Write([]byte(m.ID))
	}
	return int(h.Sum32() % uint32(n))
}
