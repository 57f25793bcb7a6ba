package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/dovetail-go/dovetail/driver"
)

// A shown is a message as the program prints and reads it: CloudEvents' names in
// JSON (https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md),
// with the channel and the further headers beside them.
type shown struct {
	Channel     string            `json:"channel,omitempty"`
	Position    string            `json:"position,omitempty"`
	ID          string            `json:"id,omitempty"`
	Source      string            `json:"source,omitempty"`
	Type        string            `json:"type,omitempty"`
	Time        *time.Time        `json:"time,omitempty"`
	ContentType string            `json:"datacontenttype,omitempty"`
	Key         string            `json:"partitionkey,omitempty"`
	Correlation string            `json:"correlationid,omitempty"`
	Causation   string            `json:"causationid,omitempty"`
	ReplyTo     string            `json:"replyto,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	Data        json.RawMessage   `json:"data,omitempty"`        // JSON as it is, text as a string
	Base64      []byte            `json:"data_base64,omitempty"` // anything else
}

func show(m *driver.Message) shown {
	s := shown{
		Channel: m.Channel, ID: m.ID, Source: m.Source, Type: m.Type, ContentType: m.ContentType, Key: m.Key,
		Correlation: m.CorrelationID, Causation: m.CausationID, ReplyTo: m.ReplyTo,
	}
	if !m.Time.IsZero() {
		s.Time = &m.Time
	}
	for _, h := range m.Headers {
		if s.Headers == nil {
			s.Headers = map[string]string{}
		}
		s.Headers[h.Name] = h.Value
	}
	switch {
	case len(m.Body) == 0:
	case isJSON(m.ContentType) && utf8.Valid(m.Body) && json.Valid(m.Body):
		s.Data = m.Body
	case utf8.Valid(m.Body) && !isJSON(m.ContentType):
		s.Data, _ = json.Marshal(string(m.Body)) // a string always encodes
	default:
		s.Base64 = m.Body
	}
	return s
}

func isJSON(contentType string) bool {
	media, _, _ := strings.Cut(contentType, ";")
	media = strings.TrimSpace(media)
	return media == "application/json" || strings.HasSuffix(media, "+json")
}

// body is the bytes that a shown message stands for.
func (s *shown) body() ([]byte, error) {
	switch {
	case s.Base64 != nil && s.Data != nil:
		return nil, fmt.Errorf("data and data_base64 are both there: want one")
	case s.Base64 != nil:
		return s.Base64, nil
	case s.Data == nil || isJSON(s.ContentType):
		return s.Data, nil
	}
	var text string
	if err := json.Unmarshal(s.Data, &text); err != nil {
		return nil, fmt.Errorf("data of content type %s: want a string: %w", s.ContentType, err)
	}
	return []byte(text), nil
}

// preview is a body in one line of a table.
func preview(m *driver.Message, n int) string {
	if !utf8.Valid(m.Body) {
		return fmt.Sprintf("(%d bytes, binary)", len(m.Body))
	}
	return short(clean(string(m.Body)), n)
}

// clock is a time in a table: to the millisecond, and the day where it is not
// today's.
func clock(t time.Time) string {
	switch {
	case t.IsZero():
		return "-"
	case time.Since(t) < 12*time.Hour && time.Since(t) > -12*time.Hour:
		return t.Local().Format("15:04:05.000")
	}
	return t.Local().Format("2006-01-02 15:04:05")
}
