package store

import (
	"bytes"
	"cmp"
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
// CR, LF and NUL, which no attribute or header may have, are an error, and so is
// what ParseHeaders could not read again.
func AppendHeaders(dst []byte, m *driver.Message) ([]byte, error) {
	if err := readable(m); err != nil {
		return nil, fmt.Errorf("message %s: %w", m.ID, err)
	}
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

// maxTimeout is the longest time-out that can be read again.
const maxTimeout = 365 * 24 * time.Hour

// readable returns an error if m has a time or a time-out whose text means
// something else when it is read.
func readable(m *driver.Message) error {
	for _, t := range []struct {
		name string
		at   time.Time
	}{{"time", m.Time}, {"due", m.Due}} {
		if y := t.at.UTC().Year(); !t.at.IsZero() && (y < 0 || y > 9999) {
			return fmt.Errorf("attribute %s: the year %d cannot be written: want one from 0 to 9999", t.name, y)
		}
	}
	if m.Timeout > maxTimeout {
		return fmt.Errorf("attribute timeout: %v is longer than a year", m.Timeout)
	}
	return nil
}

// ParseHeaders undoes AppendHeaders. An attribute that it does not know, from a
// newer version, becomes a header. An error tells of the first line that cannot
// be read; m then has all others.
func ParseHeaders(m *driver.Message, text string) error {
	id, key := m.ID, m.Key // they have columns of their own
	err := parseHeaders(m, text)
	m.ID, m.Key = id, key
	if err != nil {
		return fmt.Errorf("message %s: %w", m.ID, err)
	}
	return nil
}

func parseHeaders(m *driver.Message, text string) (first error) {
	attributes := true
	for len(text) > 0 {
		line, rest, _ := strings.Cut(text, "\n")
		text = rest
		if line == "" {
			if n := strings.Count(text, "\n"); n > 0 && attributes {
				m.Headers = make(driver.Headers, 0, n)
			}
			attributes = false
			continue
		}
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			first = cmp.Or(first, fmt.Errorf("stored header %q has no colon", cut(line)))
			continue
		}
		if attributes {
			if name == "transient" {
				m.Transient = value == "true"
				continue
			}
			known, err := driver.SetAttribute(m, name, value)
			if err != nil {
				first = cmp.Or(first, err)
				continue
			}
			if known {
				continue
			}
		}
		m.Headers = append(m.Headers, driver.Header{Name: name, Value: value})
	}
	return first
}

// cut is the beginning of a line, for an error.
func cut(line string) string { return line[:min(len(line), 100)] }

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
