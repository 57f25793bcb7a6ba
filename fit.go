package dovetail

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

// Headers of a dead letter that was too large for the broker: what was left out
// of it, and the size and hash of a body that was.
const (
	headerDeadCut  = "dovetail-dead-cut"
	headerDeadBody = "dovetail-dead-body"
)

// What is left out of a letter that does not fit, one after the other.
const (
	cutStack   = "stack"   // and most of the error
	cutHeaders = "headers" // of the original
	cutBody    = "body"
	cutNames   = "names" // long keys, ids and the like
)

var cuts = []string{cutStack, cutHeaders, cutBody, cutNames}

// fit cuts letters down to what the transport takes.
func (f *completer) fit(cs []outgoing) {
	for i := range cs {
		c := &cs[i]
		for c.letter && c.cut < len(cuts) && driver.Fits(f.b.s.conn, c.m) != nil {
			f.b.cut(c)
		}
	}
}

// shrink cuts a letter that the broker refuses as too large. It reports false
// where nothing is left to cut, or that is not the cause.
func (f *completer) shrink(c *outgoing, why error) bool {
	if !c.letter || c.cut == len(cuts) || f.b.s.conn.Classify(why) != driver.TooLarge {
		return false
	}
	f.b.cut(c)
	return true
}

// cut leaves the next part out of a letter, and says so in it. A letter that
// would wait for an instance with a handler is a dead letter without its body.
func (b *groupConsumer) cut(c *outgoing) {
	what := cuts[c.cut]
	c.cut++
	m := *c.m
	h := slices.Clone(m.Headers).Without(headerDeadCut)
	switch what {
	case cutStack:
		text := driver.UnescapeValue(last(h, headerDeadError))
		h = h.Without(headerDeadStack).Without(headerDeadError)
		if text != "" {
			h = append(h, driver.Header{Name: headerDeadError, Value: driver.EscapeValue(cut(text, 256))})
		}
	case cutHeaders:
		kept := h[:0:0]
		for _, p := range h {
			if isDeadHeader(p.Name) {
				kept = append(kept, p)
			}
		}
		h = kept
	case cutBody:
		sum := sha256.Sum256(m.Body)
		h = append(h, driver.Header{Name: headerDeadBody, Value: fmt.Sprintf("%d bytes, sha256 %s", len(m.Body), hex.EncodeToString(sum[:]))})
		m.Body = nil
		m.Channel = DeadLetterChannel(b.s.name)
	case cutNames:
		m.Key, m.CorrelationID, m.CausationID, m.ReplyTo, m.ContentType = short(m.Key), short(m.CorrelationID), short(m.CausationID), "", short(m.ContentType)
		m.Type = short(m.Type)
		for i := range h {
			h[i].Value = short(h[i].Value)
		}
	}
	m.Headers = append(h, driver.Header{Name: headerDeadCut, Value: strings.Join(cuts[:c.cut], ",")})
	c.m = &m
}

// short is a name of at most 128 bytes.
func short(s string) string {
	const most = 128
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "")
}

func isDeadHeader(name string) bool {
	return slices.ContainsFunc(deadHeaders, func(n string) bool { return strings.EqualFold(n, name) })
}
