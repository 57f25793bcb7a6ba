package filebus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
)

// A cursor is what one partition of a group has settled: every message before
// next, except the open ones. Each partition has two slots in the group's
// cursors file, written in turn, so that a write that a kill or a power cut
// tore leaves the one before. It is not synced: after a loss of power it may
// be older than it was, and messages come again.
type cursor struct {
	gen   uint64
	next  position // first message that was never handed out
	taken uint64   // messages of the partition before next
	open  []opened // handed out and not settled, in order
	torn  bool     // there was one, and it cannot be read; this is where the group began
}

type opened struct {
	seq      uint64
	attempts int
}

const (
	slotHeader = 56
	slotSize   = 64 << 10
	// maxOpen bounds what a partition has handed out and not settled; so many
	// fit into a slot even if every number in it takes its full length.
	maxOpen = 4096
	// cursorRoom is written of each slot when a group is made, so that its
	// receivers can go on, and segments go, when the disk is full. A thousand
	// open messages fit.
	cursorRoom = 4096
)

// makeCursors makes a file of cursors that were never written.
func makeCursors(path string, partitions int) error {
	f, err := openFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	room := make([]byte, cursorRoom)
	for slot := range 2 * partitions {
		if _, err = f.WriteAt(room, int64(slot)*slotSize); err != nil {
			break
		}
	}
	return errors.Join(err, f.Close())
}

func slotOffset(partition int, gen uint64) int64 {
	return int64(partition*2+int(gen&1)) * slotSize
}

// floor is the first message that is still needed.
func (c *cursor) floor() uint64 {
	if len(c.open) > 0 {
		return c.open[0].seq
	}
	return c.next.seq
}

// encode appends a slot to b. The hint is where the floor stands.
func (c *cursor) encode(b []byte, hint position) []byte {
	at := len(b)
	b = append(b, make([]byte, slotHeader)...)
	prev := uint64(0)
	for _, o := range c.open {
		b = binary.AppendUvarint(b, o.seq-prev)
		b = binary.AppendUvarint(b, uint64(o.attempts))
		prev = o.seq
	}
	s := b[at:]
	binary.LittleEndian.PutUint32(s[4:], uint32(len(s)))
	binary.LittleEndian.PutUint64(s[8:], c.gen)
	binary.LittleEndian.PutUint64(s[16:], c.next.seq)
	binary.LittleEndian.PutUint64(s[24:], hint.base)
	binary.LittleEndian.PutUint64(s[32:], uint64(hint.off))
	binary.LittleEndian.PutUint64(s[40:], c.taken)
	binary.LittleEndian.PutUint32(s[48:], uint32(len(c.open)))
	binary.LittleEndian.PutUint32(s, crc32.Checksum(s[4:], castagnoli))
	return b
}

// decodeCursor reads a slot and the place of its floor; ok is false for one
// that was never written or was torn.
func decodeCursor(s []byte) (c cursor, hint position, ok bool) {
	if len(s) < slotHeader {
		return c, hint, false
	}
	n := binary.LittleEndian.Uint32(s[4:])
	if n < slotHeader || int64(n) > int64(len(s)) || binary.LittleEndian.Uint32(s) != crc32.Checksum(s[4:n], castagnoli) {
		return c, hint, false
	}
	c.gen = binary.LittleEndian.Uint64(s[8:])
	c.next = position{seq: binary.LittleEndian.Uint64(s[16:]), base: noBase}
	hint = position{base: binary.LittleEndian.Uint64(s[24:]), off: int64(binary.LittleEndian.Uint64(s[32:]))}
	c.taken = binary.LittleEndian.Uint64(s[40:])
	count := binary.LittleEndian.Uint32(s[48:])
	if count > maxOpen {
		return c, hint, false
	}
	rest, prev := s[slotHeader:n], uint64(0)
	c.open = make([]opened, count)
	for i := range c.open {
		d, k := binary.Uvarint(rest)
		if k <= 0 {
			return c, hint, false
		}
		a, l := binary.Uvarint(rest[k:])
		if l <= 0 {
			return c, hint, false
		}
		prev += d
		c.open[i] = opened{seq: prev, attempts: int(min(a, 1<<30))}
		rest = rest[k+l:]
	}
	hint.seq = c.floor()
	if len(c.open) == 0 {
		c.next = hint
	}
	return c, hint, true
}

// readCursor returns a partition's newest cursor. A partition that has none, or
// none that is whole, begins where its group did.
func readCursor(f *os.File, partition int, g *groupMeta) (c cursor, hint position, err error) {
	buf := make([]byte, slotSize)
	found, blank := false, make([]byte, slotHeader)
	for gen := range uint64(2) {
		n, err := f.ReadAt(buf, slotOffset(partition, gen))
		if err != nil && err != io.EOF {
			return c, hint, err
		}
		if d, h, ok := decodeCursor(buf[:n]); ok && d.gen&1 == gen && (!found || d.gen > c.gen) {
			c, hint, found = d, h, true
		} else if n >= slotHeader && !bytes.Equal(buf[:slotHeader], blank) {
			c.torn = true
		}
	}
	if c.torn = c.torn && !found; !found {
		c.next = position{seq: g.Start, base: noBase}
		if partition < len(g.Counts) {
			c.taken = g.Counts[partition]
		}
		hint = c.next
	}
	return c, hint, nil
}
