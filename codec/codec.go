// Package codec turns Go values into message bodies and back, by media type.
// JSON and XML come with the standard library; others register themselves when
// their package is imported.
package codec

import (
	"fmt"
	"mime"
	"slices"
	"strings"
	"sync"
)

// A Codec encodes and decodes the values of one media type. It is safe for
// concurrent use and keeps neither values nor bytes.
type Codec interface {
	// ContentType is the media type, as in "application/json".
	ContentType() string
	// Marshal encodes v.
	Marshal(v any) ([]byte, error)
	// Unmarshal decodes data into v, a non-nil pointer. The value may share
	// memory with data.
	Unmarshal(data []byte, v any) error
}

var (
	mu     sync.RWMutex
	codecs = map[string]Codec{}
)

// Register makes a codec known under its media type, in place of any that was
// registered for it before.
func Register(c Codec) {
	mu.Lock()
	defer mu.Unlock()
	codecs[c.ContentType()] = c
}

// Lookup returns the codec for a media type, its parameters left aside, and a
// structured suffix where there is no exact match: "application/problem+json"
// is decoded as "application/json".
func Lookup(contentType string) (Codec, error) {
	mu.RLock()
	defer mu.RUnlock()
	if c := codecs[contentType]; c != nil {
		return c, nil
	}
	media, _, err := mime.ParseMediaType(contentType)
	if err != nil {
		return nil, fmt.Errorf("content type %q: %w", contentType, err)
	}
	if c := codecs[media]; c != nil {
		return c, nil
	}
	if i := strings.LastIndexByte(media, '+'); i >= 0 {
		if c := codecs["application/"+media[i+1:]]; c != nil {
			return c, nil
		}
	}
	names := make([]string, 0, len(codecs))
	for n := range codecs {
		names = append(names, n)
	}
	slices.Sort(names)
	return nil, fmt.Errorf("no codec for content type %q (registered: %s): import its package or codec.Register one", contentType, strings.Join(names, ", "))
}

func init() {
	Register(JSON)
	Register(XML)
	Register(Bytes)
}
