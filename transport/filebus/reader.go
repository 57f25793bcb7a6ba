package filebus

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/dovetail-go/dovetail/driver"
)

// noBase is the base of a position of which only the sequence number is known.
const noBase = ^uint64(0)

// goOn is what helps a group whose messages were deleted.
const goOn = "put the files back, or remove the group (dovetail topology remove CHANNEL --group GROUP --force) and provision it again, to go on without the messages"

// A position is a place between two records. Base and off are where it was
// last seen; a position without them is looked for.
type position struct {
	seq  uint64
	base uint64
	off  int64
}

// A reader reads a log's records in order, across its segments.
type reader struct {
	w       *wal
	scanner          // of the current segment
	base    uint64   // of the current segment
	counts  []uint64 // records before the current segment, by partition
	entered bool     // a segment was entered since this was last cleared
}

func (r *reader) position() position { return position{seq: r.seq, base: r.base, off: r.off} }

func (r *reader) close() error {
	if r.f == nil {
		return nil
	}
	err := r.f.Close()
	r.f = nil
	return err
}

// enter goes to the beginning of a segment.
func (r *reader) enter(base uint64) (segmentInfo, error) {
	f, info, err := openSegment(r.w.dir, base, r.w.parts)
	if err != nil {
		return info, err
	}
	r.close()
	r.scanner = scanner{f: f, off: segHeader, seq: base, buf: r.buf[:0]}
	r.base, r.counts, r.entered = base, info.counts, true
	return info, nil
}

// seek goes to a position. One before the oldest segment is lost.
func (r *reader) seek(p position, m *mark) error {
	if p.base != noBase && p.seq <= m.next {
		if r.f == nil || r.base != p.base {
			if _, err := r.enter(p.base); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		if r.f != nil && r.base == p.base {
			r.off, r.seq, r.buf = p.off, p.seq, r.buf[:0]
			if p.base == m.base && p.off == m.end && p.seq == m.next {
				return nil
			}
			if err := r.setLimit(m); err != nil {
				return err
			}
			b, err := r.peek(p.off, recordHeader)
			if err != nil {
				return err
			}
			if h, ok := parseHeader(b); ok && h.seq == p.seq {
				return nil
			}
		}
	}
	bases, err := segments(r.w.dir)
	if err != nil {
		return err
	}
	if known := marked(bases, m); len(known) > 0 { // none if all that m knows was deleted since
		bases = known
	}
	i := len(bases) - 1
	for i > 0 && bases[i] > p.seq {
		i--
	}
	if i < 0 {
		return fmt.Errorf("%w: %s holds no segment: %s", driver.ErrPositionLost, r.w.dir, goOn)
	}
	info, err := r.enter(bases[i])
	if err != nil {
		return err
	}
	if info.base > p.seq && info.prev > p.seq {
		return fmt.Errorf("%w: message %d of %s was deleted by hand, the oldest is %d: %s", driver.ErrPositionLost, p.seq, r.w.dir, info.base, goOn)
	}
	for r.seq < p.seq {
		if err := r.setLimit(m); err != nil {
			return err
		}
		before := r.scanner
		rec, err := r.scanner.next()
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return nil // the next call goes on in the next segment
		}
		if err != nil {
			return err
		}
		if rec.damage && r.seq > p.seq { // report the damage, it reaches beyond
			r.off, r.seq = before.off, before.seq
			return nil
		}
	}
	return nil
}

// setLimit sets how far the current segment may be read: the mark in the last
// one, the whole file in the others.
func (r *reader) setLimit(m *mark) error {
	if r.base == m.base {
		r.limit = m.end
		return nil
	}
	st, err := r.f.Stat()
	if err != nil {
		return err
	}
	r.limit = st.Size()
	return nil
}

// next returns the next record that m covers; io.EOF if there is none.
func (r *reader) next(m *mark) (record, error) {
	for {
		if r.off >= r.limit {
			if err := r.setLimit(m); err != nil {
				return record{}, err
			}
		}
		rec, err := r.scanner.next()
		if err == nil {
			return rec, nil
		}
		if err != io.EOF && err != io.ErrUnexpectedEOF {
			return rec, err
		}
		if err == io.ErrUnexpectedEOF {
			limit := r.limit
			if err := r.setLimit(m); err != nil {
				return record{}, err
			}
			if r.limit != limit { // emptied while it was read
				continue
			}
			// Below the mark nothing is torn: the rest of the segment is damaged.
			rec, ok, err := r.rest(m)
			if ok || err != nil {
				return rec, err
			}
		}
		if r.base == m.base {
			return record{}, io.EOF
		}
		rec, ok, err := r.advance(m)
		if ok || err != nil {
			return rec, err
		}
	}
}

// rest reports the unreadable end of a segment as damage and skips it. In the
// segment that is appended to, the mark says how many records it held.
func (r *reader) rest(m *mark) (record, bool, error) {
	if r.base != m.base {
		return record{}, false, nil // advance sees the gap
	}
	raw, err := r.raw(r.off, r.limit)
	if err != nil {
		return record{}, false, err
	}
	rec := record{header: header{seq: r.seq}, off: r.off, payload: raw, damage: true, lost: m.next - r.seq}
	r.off, r.seq = r.limit, m.next
	return rec, true, nil
}

// advance goes to the next segment that m knows, and reports what is missing
// before it.
func (r *reader) advance(m *mark) (record, bool, error) {
	bases, err := segments(r.w.dir)
	if err != nil {
		return record{}, false, err
	}
	for _, base := range marked(bases, m) {
		if base <= r.base {
			continue
		}
		seq, at, end, limit := r.seq, r.base, r.off, r.limit
		info, err := readSegmentHeader(r.w, at)
		emptied := limit <= segHeader && (err == nil && info.removed > 0 || errors.Is(err, fs.ErrNotExist))
		var raw []byte
		if end < limit {
			if raw, err = r.raw(end, limit); err != nil {
				return record{}, false, err
			}
		}
		info, err = r.enter(base)
		if err != nil {
			return record{}, false, err
		}
		if info.prev > seq && !emptied {
			return record{header: header{seq: seq}, off: end, payload: raw, damage: true, lost: info.prev - seq}, true, nil
		}
		return record{}, false, nil
	}
	if len(bases) > 0 && bases[len(bases)-1] > m.base {
		return record{}, false, io.EOF // what m knows was deleted since: look at a newer one
	}
	return record{}, false, fmt.Errorf("%w: in %s the segment behind %020d.seg is missing: %s", driver.ErrPositionLost, r.w.dir, r.base, goOn)
}

func readSegmentHeader(w *wal, base uint64) (segmentInfo, error) {
	info, ok, err := readInfo(w.dir, base, w.parts)
	if err == nil && !ok {
		err = os.ErrNotExist
	}
	return info, err
}
