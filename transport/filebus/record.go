package filebus

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"github.com/dovetail-go/dovetail/driver"
)

// A record is a header of 32 bytes and a payload. The header has a checksum of
// its own, so that a damaged payload costs one message and not the place of the
// next: its length can still be believed.
//
//	 0  u32  CRC32C of bytes 4 to 28
//	 4  u32  magic
//	 8  u64  sequence number in the channel
//	16  u32  length of the payload
//	20  u32  CRC32C of the payload
//	24  u16  partition
//	26  u8   kind
//	27  u8   zero
//	28  u8   1 once the record was removed; outside the checksum, so that it can be set in place
//	29       zeros
const (
	recordHeader  = 32
	recordMagic   = 0x31525644 // "DVR1", little endian
	recordRemoved = 28
	maxPayload    = 1 << 30
	kindMessage   = 1
	anyPartition  = 0xffff // decided when the sequence number is: round robin
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var magicBytes = binary.LittleEndian.AppendUint32(nil, recordMagic)

// header is what a record's first bytes say.
type header struct {
	seq       uint64
	length    int
	sum       uint32
	partition int
	removed   bool
}

// appendRecord appends m as a record that has no sequence number yet; stamp
// gives it one.
func appendRecord(dst []byte, m *driver.Message, partition int) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, recordHeader)...)
	dst = appendMessage(dst, m)
	h := dst[at:]
	payload := h[recordHeader:]
	binary.LittleEndian.PutUint32(h[4:], recordMagic)
	binary.LittleEndian.PutUint32(h[16:], uint32(len(payload)))
	binary.LittleEndian.PutUint32(h[20:], crc32.Checksum(payload, castagnoli))
	binary.LittleEndian.PutUint16(h[24:], uint16(partition))
	h[26] = kindMessage
	return dst
}

// appendRaw appends a record that was read, to be stamped again.
func appendRaw(dst []byte, rec record) []byte {
	at := len(dst)
	dst = append(dst, make([]byte, recordHeader)...)
	h := dst[at:]
	binary.LittleEndian.PutUint32(h[4:], recordMagic)
	binary.LittleEndian.PutUint32(h[16:], uint32(rec.length))
	binary.LittleEndian.PutUint32(h[20:], rec.sum)
	binary.LittleEndian.PutUint16(h[24:], uint16(rec.partition))
	h[26] = kindMessage
	return append(dst, rec.payload...)
}

// stamp gives the record at the beginning of h its sequence number, and a
// partition where it has none of its own, and returns the partition.
func stamp(h []byte, seq uint64, parts int) int {
	p := int(binary.LittleEndian.Uint16(h[24:]))
	if p == anyPartition {
		p = int(seq % uint64(parts))
		binary.LittleEndian.PutUint16(h[24:], uint16(p))
	}
	binary.LittleEndian.PutUint64(h[8:], seq)
	binary.LittleEndian.PutUint32(h, crc32.Checksum(h[4:28], castagnoli))
	return p
}

// parseHeader reads a record's header and reports whether it is sound. Its
// length is bounded but may still lie beyond the end of the file.
func parseHeader(b []byte) (header, bool) {
	if len(b) < recordHeader || binary.LittleEndian.Uint32(b[4:]) != recordMagic ||
		binary.LittleEndian.Uint32(b) != crc32.Checksum(b[4:28], castagnoli) {
		return header{}, false
	}
	h := header{
		seq:       binary.LittleEndian.Uint64(b[8:]),
		length:    int(binary.LittleEndian.Uint32(b[16:])),
		sum:       binary.LittleEndian.Uint32(b[20:]),
		partition: int(binary.LittleEndian.Uint16(b[24:])),
		removed:   b[recordRemoved] != 0,
	}
	return h, h.length <= maxPayload && b[26] == kindMessage
}

// soundPayload reports whether payload is what the header was written for.
func (h header) soundPayload(payload []byte) bool {
	return len(payload) == h.length && crc32.Checksum(payload, castagnoli) == h.sum
}

// nextHeader returns the offset in b of the first sound header with a sequence
// number above after, or -1.
func nextHeader(b []byte, after uint64) int {
	for at := 0; ; {
		i := bytes.Index(b[at:], magicBytes)
		if i < 0 {
			return -1
		}
		start := at + i - 4
		if start >= 0 {
			if h, ok := parseHeader(b[start:]); ok && h.seq > after {
				return start
			}
		}
		at += i + 1
	}
}

// partitionOf maps a key to a partition with FNV-1a, whose low bits are mixed
// once more because short keys differ mostly in theirs.
func partitionOf(key string, parts int) int {
	if key == "" {
		return anyPartition
	}
	h := uint64(14695981039346656037)
	for i := range len(key) {
		h = (h ^ uint64(key[i])) * 1099511628211
	}
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	h ^= h >> 32
	return int(h % uint64(parts))
}
