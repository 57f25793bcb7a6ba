package codec

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
)

// JSON encodes with encoding/json as "application/json" (RFC 8259). Values that
// nest deeper than MaxDepth are refused, also before they are decoded.
var JSON Codec = jsonCodec{}

// XML encodes with encoding/xml as "application/xml". Values that nest deeper
// than MaxDepth are refused, also before they are decoded.
var XML Codec = xmlCodec{}

// Bytes carries []byte and string values as they are, as
// "application/octet-stream". What it decodes into []byte is the message's body
// itself, which must not be changed.
var Bytes Codec = bytesCodec{}

// MaxDepth is how deep objects and arrays, or elements, may nest.
const MaxDepth = 64

type jsonCodec struct{}

func (jsonCodec) ContentType() string { return "application/json" }

func (jsonCodec) Marshal(v any) ([]byte, error) {
	data, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return data, checkDepth(data)
}

func (jsonCodec) Unmarshal(data []byte, v any) error {
	if err := checkDepth(data); err != nil {
		return err
	}
	return json.Unmarshal(data, v)
}

// checkDepth counts brackets outside strings. A body of no more than MaxDepth
// brackets in all, which is nearly every one, is settled by counting alone.
func checkDepth(data []byte) error {
	if bytes.Count(data, openBrace)+bytes.Count(data, openBracket) <= MaxDepth {
		return nil
	}
	depth, inString := 0, false
	for i := 0; i < len(data); i++ {
		switch c := data[i]; {
		case inString:
			if c == '\\' {
				i++
			} else if c == '"' {
				inString = false
			}
		case c == '"':
			inString = true
		case c == '{' || c == '[':
			if depth++; depth > MaxDepth {
				return fmt.Errorf("json nests deeper than %d", MaxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

var openBrace, openBracket = []byte("{"), []byte("[")

type xmlCodec struct{}

func (xmlCodec) ContentType() string { return "application/xml" }

func (xmlCodec) Marshal(v any) ([]byte, error) {
	data, err := xml.Marshal(v)
	if err != nil || bytes.Count(data, []byte("<")) <= MaxDepth {
		return data, err
	}
	for l := (&depthLimiter{dec: xml.NewDecoder(bytes.NewReader(data))}); ; {
		if _, err := l.Token(); err == io.EOF {
			return data, nil
		} else if err != nil {
			return nil, err
		}
	}
}

func (xmlCodec) Unmarshal(data []byte, v any) error {
	return xml.NewTokenDecoder(&depthLimiter{dec: xml.NewDecoder(bytes.NewReader(data))}).Decode(v)
}

// depthLimiter is an xml.TokenReader that refuses elements nested too deep.
type depthLimiter struct {
	dec   *xml.Decoder
	depth int
}

func (l *depthLimiter) Token() (xml.Token, error) {
	t, err := l.dec.Token()
	if err != nil {
		return nil, err
	}
	switch t.(type) {
	case xml.StartElement:
		if l.depth++; l.depth > MaxDepth {
			return nil, fmt.Errorf("xml nests deeper than %d", MaxDepth)
		}
	case xml.EndElement:
		l.depth--
	}
	return t, nil
}

type bytesCodec struct{}

func (bytesCodec) ContentType() string { return "application/octet-stream" }

func (bytesCodec) Marshal(v any) ([]byte, error) {
	switch v := v.(type) {
	case []byte:
		return bytes.Clone(v), nil // a message never changes; what v points at may
	case string:
		return []byte(v), nil
	}
	return nil, fmt.Errorf("octet-stream carries []byte or string, not %T", v)
}

func (bytesCodec) Unmarshal(data []byte, v any) error {
	switch v := v.(type) {
	case *[]byte:
		*v = data
	case *string:
		*v = string(data)
	default:
		return fmt.Errorf("octet-stream carries []byte or string, not %T", v)
	}
	return nil
}
