package filebus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A payload is a version byte, the length of the attributes (u32), the
// attributes and headers, and the body, which is the rest. The attributes stand
// together so that reading them costs one string, of which each is a part.
const (
	payloadVersion = 1
	hasTime        = 1 << 0
	hasDue         = 1 << 1
)

var errPayload = errors.New("payload is cut short")

// appendMessage appends m's payload to dst. The channel is not part of it: the
// directory says it.
func appendMessage(dst []byte, m *driver.Message) []byte {
	dst = append(dst, payloadVersion, 0, 0, 0, 0)
	at := len(dst)
	var flags byte
	if !m.Time.IsZero() {
		flags |= hasTime
	}
	if !m.Due.IsZero() {
		flags |= hasDue
	}
	dst = append(dst, flags)
	for _, s := range [...]string{m.ID, m.Source, m.Type, m.ContentType, m.Key, m.CorrelationID, m.CausationID, m.ReplyTo} {
		dst = appendString(dst, s)
	}
	if flags&hasTime != 0 {
		dst = appendTime(dst, m.Time)
	}
	if flags&hasDue != 0 {
		dst = appendTime(dst, m.Due)
	}
	dst = binary.AppendVarint(dst, int64(m.Timeout))
	dst = binary.AppendUvarint(dst, uint64(len(m.Headers)))
	for _, h := range m.Headers {
		dst = appendString(dst, h.Name)
		dst = appendString(dst, h.Value)
	}
	binary.LittleEndian.PutUint32(dst[at-4:], uint32(len(dst)-at))
	return append(dst, m.Body...)
}

func appendString(dst []byte, s string) []byte {
	return append(binary.AppendUvarint(dst, uint64(len(s))), s...)
}

func appendTime(dst []byte, t time.Time) []byte {
	return binary.AppendUvarint(binary.AppendVarint(dst, t.Unix()), uint64(t.Nanosecond()))
}

// decodeMessage reads a payload into m, copying what it keeps. Every length is
// checked against what is there before anything is allocated for it.
func decodeMessage(payload []byte, m *driver.Message) error {
	if len(payload) < 5 {
		return errPayload
	}
	if payload[0] != payloadVersion {
		return fmt.Errorf("payload version %d is not known: it was written by a newer release", payload[0])
	}
	n := binary.LittleEndian.Uint32(payload[1:])
	rest := payload[5:]
	if uint64(n) > uint64(len(rest)) || n == 0 {
		return errPayload
	}
	d := decoder{s: string(rest[:n])}
	flags := d.byte()
	for _, f := range [...]*string{&m.ID, &m.Source, &m.Type, &m.ContentType, &m.Key, &m.CorrelationID, &m.CausationID, &m.ReplyTo} {
		*f = d.string()
	}
	if flags&hasTime != 0 {
		m.Time = d.time()
	}
	if flags&hasDue != 0 {
		m.Due = d.time()
	}
	m.Timeout = time.Duration(d.varint())
	count := d.uvarint()
	if count > uint64(len(d.s))/2 { // a header takes two bytes at least
		return errPayload
	}
	if count > 0 && !d.bad {
		m.Headers = make(driver.Headers, count)
		for i := range m.Headers {
			m.Headers[i] = driver.Header{Name: d.string(), Value: d.string()}
		}
	}
	if d.bad || d.s != "" {
		return errPayload
	}
	if body := rest[n:]; len(body) > 0 {
		m.Body = append(make([]byte, 0, len(body)), body...)
	}
	return nil
}

// decoder takes values off the front of s and remembers whether one was cut.
type decoder struct {
	s   string
	bad bool
}

func (d *decoder) fail() { d.bad, d.s = true, "" }

func (d *decoder) byte() byte {
	if d.s == "" {
		d.fail()
		return 0
	}
	b := d.s[0]
	d.s = d.s[1:]
	return b
}

func (d *decoder) uvarint() uint64 {
	var v uint64
	for shift := uint(0); shift < 64; shift += 7 {
		if d.s == "" {
			break
		}
		b := d.s[0]
		d.s = d.s[1:]
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
	d.fail()
	return 0
}

func (d *decoder) varint() int64 {
	u := d.uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

func (d *decoder) string() string {
	n := d.uvarint()
	if n > uint64(len(d.s)) {
		d.fail()
		return ""
	}
	s := d.s[:n]
	d.s = d.s[n:]
	return s
}

func (d *decoder) time() time.Time {
	sec := d.varint()
	nsec := d.uvarint()
	if nsec >= 1e9 {
		d.fail()
		return time.Time{}
	}
	return time.Unix(sec, int64(nsec)).UTC()
}
