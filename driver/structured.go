package driver

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// structuredType is the media type of a CloudEvent in structured content mode,
// JSON format: one JSON object holds attributes and data.
const structuredType = "application/cloudevents+json"

// Structured reports whether m's content type says that its body is a CloudEvent in
// structured content mode, JSON format ("application/cloudevents+json", parameters
// ignored). Transports deliver such a message unchanged; the core decodes it with
// DecodeStructured.
func Structured(m *Message) bool {
	media, _, _ := strings.Cut(m.ContentType, ";")
	return len(media) >= len(structuredType) && strings.EqualFold(strings.TrimSpace(media), structuredType)
}

// DecodeStructured returns a new message made of the CloudEvent in m's body (JSON
// event format 1.0.2). Attributes that Message has fields for become these fields;
// others become headers named "ce-" and the attribute. The data becomes the body:
// data of a JSON type, or of none, as its JSON text; data of another type as the
// characters of the string, or as its JSON text where it is no string; data_base64
// as the bytes that it encodes. The channel, m's headers, and the key where the event
// has no partitionkey, are those of m. m does not change. The error says what is
// malformed: no JSON object, a wrong attribute, no specversion, id, source or type.
func DecodeStructured(m *Message) (*Message, error) {
	var members map[string]json.RawMessage
	if err := json.Unmarshal(m.Body, &members); err != nil {
		return nil, fmt.Errorf("structured event: %w", err)
	}
	e := &Message{Channel: m.Channel, Transient: m.Transient, Key: m.Key, Headers: append(Headers(nil), m.Headers...)}
	versioned := false
	for _, name := range slices.Sorted(maps.Keys(members)) {
		raw := members[name]
		if name == "data" || name == "data_base64" {
			continue
		}
		value, ok, err := attributeValue(raw)
		if err == nil {
			err = validAttributeName(name)
		}
		if err != nil {
			return nil, fmt.Errorf("structured event: attribute %q: %w", name, err)
		}
		if !ok {
			continue
		}
		known, err := SetAttribute(e, strings.ToLower(name), value)
		if err != nil {
			return nil, fmt.Errorf("structured event: %w", err)
		}
		versioned = versioned || strings.EqualFold(name, "specversion")
		if !known {
			e.Headers = append(e.Headers, Header{"ce-" + strings.ToLower(name), value})
		}
	}
	switch {
	case !versioned:
		return nil, errors.New("structured event: attribute specversion is missing")
	case e.ID == "" || e.Source == "" || e.Type == "":
		return nil, errors.New("structured event: attribute id, source or type is missing")
	}
	if err := structuredData(e, members); err != nil {
		return nil, fmt.Errorf("structured event: %w", err)
	}
	return e, nil
}

// attributeValue is an attribute's text: of a string, a boolean or a number.
// null stands for an attribute that is not there.
func attributeValue(raw json.RawMessage) (value string, ok bool, err error) {
	switch raw[0] { // json.Unmarshal leaves no empty member
	case 'n':
		return "", false, nil
	case '"':
		if err := json.Unmarshal(raw, &value); err != nil {
			return "", false, err
		}
		return value, true, ValidText(value)
	case '{', '[':
		return "", false, errors.New("want a string, a boolean or a number")
	}
	return string(raw), true, nil
}

// validAttributeName takes what the specification does, and what senders add to
// it that a header's name can hold.
func validAttributeName(name string) error {
	if name == "" {
		return errors.New("name is empty")
	}
	for i := range len(name) {
		switch c := name[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '_', c == '-', c == '.':
		default:
			return fmt.Errorf("character %q in its name", c)
		}
	}
	return nil
}

// structuredData sets e's body.
func structuredData(e *Message, members map[string]json.RawMessage) error {
	data, encoded := members["data"], members["data_base64"]
	if isNull(data) {
		data = nil
	}
	if isNull(encoded) {
		encoded = nil
	}
	switch {
	case data != nil && encoded != nil:
		return errors.New("it has both data and data_base64")
	case encoded != nil:
		var text string
		if err := json.Unmarshal(encoded, &text); err != nil {
			return fmt.Errorf("data_base64: %w", err)
		}
		body, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return fmt.Errorf("data_base64: %w", err)
		}
		e.Body = body
	case data == nil:
	case isJSON(e.ContentType):
		e.Body = append([]byte(nil), data...)
		if e.ContentType == "" {
			e.ContentType = "application/json"
		}
	default:
		var text string
		if err := json.Unmarshal(data, &text); err != nil {
			e.Body = append([]byte(nil), data...) // JSON after all
			return nil
		}
		e.Body = []byte(text)
	}
	return nil
}

func isNull(raw json.RawMessage) bool { return string(raw) == "null" }

// isJSON reports whether data of this media type is JSON.
func isJSON(contentType string) bool {
	media, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	media = strings.TrimSpace(media)
	return media == "" || strings.HasSuffix(media, "/json") || strings.HasSuffix(media, "+json")
}
