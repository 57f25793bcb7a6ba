package filebus

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"io"
	"os"
	"slices"
	"sync"
	"time"
)

// A mark says how far a log is valid. It is written after the records it speaks
// of were synced, over its predecessor in the file that is also the append
// lock, and is what readers go by: they never see a record that was not
// confirmed or is being written. It is not synced itself; after a restart of
// the machine, which boot tells, the end of the log is looked for instead.
type mark struct {
	boot   uint64   // of bootID, 0 if that is not known
	base   uint64   // segment that is appended to
	end    int64    // offset behind its last record, in bytes
	next   uint64   // sequence number of the next record
	counts []uint64 // records ever appended, by partition
}

const markHeader = 40

// deadMark is the mark of a log that is being removed. It is written first, so
// that nobody who has the file open appends to what is already in the trash.
const deadMark = "REMOVED\n"

func markSize(parts int) int { return markHeader + 8*parts }

func (m *mark) encode(b []byte) {
	binary.LittleEndian.PutUint32(b[4:], uint32(len(m.counts)))
	binary.LittleEndian.PutUint64(b[8:], m.boot)
	binary.LittleEndian.PutUint64(b[16:], m.base)
	binary.LittleEndian.PutUint64(b[24:], uint64(m.end))
	binary.LittleEndian.PutUint64(b[32:], m.next)
	for i, c := range m.counts {
		binary.LittleEndian.PutUint64(b[markHeader+8*i:], c)
	}
	binary.LittleEndian.PutUint32(b, crc32.Checksum(b[4:], castagnoli))
}

// decode reads a mark into m, whose counts say how many partitions there are.
func (m *mark) decode(b []byte) bool {
	if binary.LittleEndian.Uint32(b) != crc32.Checksum(b[4:], castagnoli) ||
		int(binary.LittleEndian.Uint32(b[4:])) != len(m.counts) {
		return false
	}
	m.boot = binary.LittleEndian.Uint64(b[8:])
	m.base = binary.LittleEndian.Uint64(b[16:])
	m.end = int64(binary.LittleEndian.Uint64(b[24:]))
	m.next = binary.LittleEndian.Uint64(b[32:])
	for i := range m.counts {
		m.counts[i] = binary.LittleEndian.Uint64(b[markHeader+8*i:])
	}
	return m.end >= segHeader
}

func (m *mark) clone() mark {
	c := *m
	c.counts = slices.Clone(m.counts)
	return c
}

// markReader reads a log's mark again and again without allocating.
type markReader struct {
	f    *os.File
	buf  []byte
	mark mark
}

func newMarkReader(f *os.File, parts int) *markReader {
	return &markReader{f: f, buf: make([]byte, markSize(parts)), mark: mark{counts: make([]uint64, parts)}}
}

// read returns the current mark, valid until the next read. Reading does not
// lock, so a write may be met half done: that shows in the checksum and passes
// at once, or when the writer, which was put aside in the middle of it, goes on.
func (r *markReader) read() (*mark, error) {
	var err error
	for tries := range 300 {
		if tries >= 100 { // a second in all
			<-time.After(5 * time.Millisecond)
		}
		if _, err = r.f.ReadAt(r.buf, 0); err != nil {
			break
		}
		if r.mark.decode(r.buf) {
			return &r.mark, nil
		}
		if string(r.buf[:len(deadMark)]) == deadMark {
			return nil, errGone
		}
	}
	if err == nil || err == io.EOF {
		err = fmt.Errorf("%s is damaged: close every process that uses the channel, delete this file and start again; no message is lost by that", r.f.Name())
	}
	return nil, err
}

// boot is the time since the machine was started, as a number; 0 if unknown.
var boot = sync.OnceValue(func() uint64 {
	id := bootID()
	if id == "" {
		return 0
	}
	h := fnv.New64a()
	h.Write([]byte(id))
	return max(1, h.Sum64())
})

// A notifier wakes everybody who waits for something to happen.
type notifier struct {
	mu sync.Mutex
	ch chan struct{}
}

// wait returns a channel that is closed when notify is called next. It must be
// taken before looking whether what is waited for is already there.
func (n *notifier) wait() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch == nil {
		n.ch = make(chan struct{})
	}
	return n.ch
}

func (n *notifier) notify() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch != nil {
		close(n.ch)
		n.ch = nil
	}
}
