package dovetail

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"sync"
	"time"
)

// NewID returns a new message id, a UUID version 7 (RFC 9562, section 5.7):
// milliseconds since 1970 and 74 random bits. It is the one place where ids are
// made; later ids sort after earlier ones of the same process.
func NewID() string { return newID(time.Now()) }

func newID(at time.Time) string {
	var u [16]byte
	ids.next(&u, uint64(at.UnixMilli()))
	return formatUUID(&u)
}

// ids generates UUIDs from random bytes that are drawn in bulk, since a system
// call for each would cost more than sending a message does.
var ids idSource

type idSource struct {
	mu     sync.Mutex
	last   uint64 // milliseconds<<12 | sequence, never going back
	random [1024]byte
	left   int
}

func (s *idSource) next(u *[16]byte, ms uint64) {
	s.mu.Lock()
	// rand_a is a sequence within the millisecond (RFC 9562, section 6.2,
	// method 1); it borrows from the next millisecond when it overflows.
	s.last = max(s.last+1, ms<<12)
	stamp := s.last
	if s.left < 8 {
		rand.Read(s.random[:]) // never returns an error: crypto/rand ends the program first
		s.left = len(s.random)
	}
	s.left -= 8
	copy(u[8:], s.random[s.left:s.left+8])
	s.mu.Unlock()
	binary.BigEndian.PutUint64(u[0:8], stamp>>12<<16|0x7000|stamp&0xfff)
	u[8] = u[8]&0x3f | 0x80
}

func formatUUID(u *[16]byte) string {
	var b [36]byte
	hex.Encode(b[0:8], u[0:4])
	hex.Encode(b[9:13], u[4:6])
	hex.Encode(b[14:18], u[6:8])
	hex.Encode(b[19:23], u[8:10])
	hex.Encode(b[24:36], u[10:16])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// deriveID returns the id that follows from its parts: a UUID version 8 (RFC
// 9562, section 5.8) of their SHA-256. Parts are told apart by their lengths.
func deriveID(body []byte, n int, parts ...string) string {
	h := sha256.New()
	var l [8]byte
	for _, p := range parts {
		binary.BigEndian.PutUint64(l[:], uint64(len(p)))
		h.Write(l[:])
		h.Write([]byte(p))
	}
	binary.BigEndian.PutUint64(l[:], uint64(n))
	h.Write(l[:])
	h.Write(body)
	var sum [sha256.Size]byte
	h.Sum(sum[:0])
	var u [16]byte
	copy(u[:], sum[:16])
	u[6] = u[6]&0x0f | 0x80
	u[8] = u[8]&0x3f | 0x80
	return formatUUID(&u)
}
