package filebus

import (
	"io"
	"os"
)

// A record as it was found. Its payload is valid until the scanner moves on and
// was not checked yet: whoever skips a record need not pay for that.
type record struct {
	header
	off     int64
	payload []byte
	damage  bool   // no record could be read here: payload holds raw bytes
	lost    uint64 // with damage, how many sequence numbers are gone
}

const (
	readChunk = 256 << 10
	maxRaw    = 1 << 20 // of damaged bytes kept for looking at
)

// A scanner reads the records of one segment in order, up to a limit.
type scanner struct {
	f     *os.File
	off   int64  // of the next record
	limit int64  // behind the last byte that may be read
	seq   uint64 // that the next record should have
	buf   []byte // holds bytes of the file from lo on
	lo    int64
}

// peek returns n bytes at off, fewer only at the limit.
func (s *scanner) peek(off int64, n int) ([]byte, error) {
	n = int(min(int64(n), s.limit-off))
	if n <= 0 {
		return nil, nil
	}
	if off >= s.lo && off+int64(n) <= s.lo+int64(len(s.buf)) {
		return s.buf[off-s.lo:][:n], nil
	}
	want := int(min(max(int64(n), readChunk), s.limit-off))
	if cap(s.buf) < want || cap(s.buf) > 4*readChunk && want <= readChunk {
		s.buf = make([]byte, max(want, readChunk))
	}
	s.buf = s.buf[:want]
	got, err := s.f.ReadAt(s.buf, off)
	s.buf, s.lo = s.buf[:got], off
	if err == io.EOF {
		err = nil
	}
	return s.buf[:min(got, n)], err
}

// next returns the record at off and moves behind it; io.EOF at the limit, and
// io.ErrUnexpectedEOF where a record is cut by it. A place where no record can
// be read comes as damage if a sound record follows; otherwise the rest is cut.
func (s *scanner) next() (record, error) {
	if s.off >= s.limit {
		return record{}, io.EOF
	}
	b, err := s.peek(s.off, recordHeader)
	if err != nil {
		return record{}, err
	}
	h, ok := parseHeader(b)
	switch {
	case !ok || h.seq < s.seq:
		return s.resync()
	case h.seq > s.seq:
		rec := record{header: header{seq: s.seq}, off: s.off, damage: true, lost: h.seq - s.seq}
		s.seq = h.seq
		return rec, nil
	case s.off+recordHeader+int64(h.length) > s.limit:
		return record{}, io.ErrUnexpectedEOF
	}
	b, err = s.peek(s.off, recordHeader+h.length)
	if err != nil {
		return record{}, err
	}
	if len(b) < recordHeader+h.length {
		return record{}, io.ErrUnexpectedEOF
	}
	rec := record{header: h, off: s.off, payload: b[recordHeader:]}
	s.off += int64(len(b))
	s.seq++
	return rec, nil
}

// resync looks for the next sound record behind one that cannot be read.
func (s *scanner) resync() (record, error) {
	from := s.off
	for at := from; at < s.limit; {
		b, err := s.peek(at, readChunk)
		if err != nil {
			return record{}, err
		}
		i := nextHeader(b, s.seq)
		if i >= 0 {
			found := at + int64(i)
			h, _ := parseHeader(b[i:])
			raw, err := s.raw(from, found)
			if err != nil {
				return record{}, err
			}
			rec := record{header: header{seq: s.seq}, off: from, payload: raw, damage: true, lost: h.seq - s.seq}
			s.off, s.seq = found, h.seq
			return rec, nil
		}
		if len(b) < readChunk {
			break
		}
		at += int64(len(b)) - recordHeader // a header may lie across the chunks
	}
	return record{}, io.ErrUnexpectedEOF
}

// raw copies damaged bytes, as many as are kept.
func (s *scanner) raw(from, to int64) ([]byte, error) {
	b := make([]byte, min(to-from, maxRaw))
	n, err := s.f.ReadAt(b, from)
	if err == io.EOF {
		err = nil
	}
	return b[:n], err
}
