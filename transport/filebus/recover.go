package filebus

import (
	"errors"
	"io"
	"os"
	"slices"
)

// recover finds the end of the log by reading its last segment, and begins a
// new one where a cursor is ahead of it: after a loss of power the log may end
// before what was read from it, and a sequence number given twice would be
// taken for settled. hadMark says that w.mark could be read.
func (w *wal) recover(hadMark bool) error {
	bases, err := segments(w.dir)
	if err != nil {
		return err
	}
	found := mark{counts: make([]uint64, w.parts)}
	haveSegment := false
	var known *mark
	if hadMark && w.sync {
		known = &w.mark
	}
	for len(bases) > 0 && !haveSegment {
		base := bases[len(bases)-1]
		f, info, err := openSegment(w.dir, base, w.parts)
		unmarked := errors.Is(err, errSegment) && tornHeader(w.dir, base) // died before its header was written
		switch {
		case err == nil:
			if unmarked, err = w.passed(bases, info, known); err != nil {
				return errors.Join(err, f.Close())
			}
			if unmarked {
				f.Close()
				break
			}
			w.setActive(f, base)
			if found, err = w.scanEnd(f, info, known); err != nil {
				return err
			}
			haveSegment = true
		case !unmarked:
			return err
		}
		if unmarked {
			if err := os.Remove(segmentPath(w.dir, base)); err != nil {
				return err
			}
			bases = bases[:len(bases)-1]
		}
	}
	next, counts, err := w.highest()
	if err != nil {
		return err
	}
	for i := range found.counts {
		if i < len(counts) {
			counts[i] = max(counts[i], found.counts[i])
		} else {
			counts = append(counts, found.counts[i])
		}
	}
	next = max(next, found.next)
	if hadMark && w.mark.next > next {
		next = w.mark.next
		for i := range counts {
			counts[i] = max(counts[i], w.mark.counts[i])
		}
	}
	if haveSegment && next == found.next {
		w.verified = true
		return w.writeMark(found)
	}
	if !haveSegment {
		found.next = next // what a cursor still needs of before is lost, and said to be
	}
	if err := w.rollFrom(found.next, next, counts); err != nil {
		return err
	}
	w.verified = true
	return nil
}

// passed reports whether the last segment was made and never marked, as
// dropUnmarked says: it is empty, and the one before it goes on beyond it.
func (w *wal) passed(bases []uint64, info segmentInfo, known *mark) (bool, error) {
	if len(bases) < 2 {
		return false, nil
	}
	if st, err := os.Stat(segmentPath(w.dir, info.base)); err != nil || st.Size() > segHeader {
		return false, err
	}
	f, before, err := openSegment(w.dir, bases[len(bases)-2], w.parts)
	if errors.Is(err, errSegment) {
		return false, nil // for its readers to report
	}
	if err != nil {
		return false, err
	}
	end, err := w.findEnd(f, before, known)
	return end.next > info.prev, errors.Join(err, f.Close())
}

// scanEnd reads a segment to its last sound record and cuts off what follows.
func (w *wal) scanEnd(f *os.File, info segmentInfo, known *mark) (mark, error) {
	m, err := w.findEnd(f, info, known)
	if err != nil {
		return mark{}, err
	}
	st, err := f.Stat()
	if err == nil && st.Size() > m.end {
		if err = f.Truncate(m.end); err == nil {
			err = syncData(f)
		}
	}
	return m, err
}

// findEnd reads a segment to its last sound record. What known covers was
// synced, and was confirmed: if it is not sound, it is damaged, which is for its
// readers to report, and not torn.
func (w *wal) findEnd(f *os.File, info segmentInfo, known *mark) (mark, error) {
	st, err := f.Stat()
	if err != nil {
		return mark{}, err
	}
	m := mark{base: info.base, end: segHeader, next: info.base, counts: slices.Clone(info.counts)}
	counts := info.counts
	s := scanner{f: f, off: segHeader, limit: st.Size(), seq: info.base}
	for {
		rec, err := s.next()
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			break
		}
		if err != nil {
			return mark{}, err
		}
		if rec.damage {
			continue
		}
		if rec.partition < w.parts {
			counts[rec.partition]++
		}
		// A record whose payload did not reach the disk is part of the torn
		// tail, unless a sound one comes after it.
		if rec.soundPayload(rec.payload) {
			m.end, m.next = s.off, s.seq
			copy(m.counts, counts)
		}
	}
	if known != nil && known.base == info.base && known.end <= st.Size() && known.end > m.end {
		m.end, m.next = known.end, known.next
		copy(m.counts, known.counts)
	}
	return m, nil
}

// tornHeader reports whether a segment holds nothing but an unreadable header.
func tornHeader(dir string, base uint64) bool {
	st, err := os.Stat(segmentPath(dir, base))
	return err == nil && st.Size() <= segHeader
}

// roll begins a new segment for the record next. The old one is cut off at the
// mark, behind which an fsync may have failed, and synced, whatever the options
// say: only the last segment can have a torn end, and the others are read whole.
func (w *wal) roll(next uint64, counts []uint64) error {
	if err := w.finish(); err != nil {
		return err
	}
	if err := w.dropUnmarked(); err != nil {
		return err
	}
	old := w.mark.base
	if err := w.rollFrom(w.mark.next, next, counts); err != nil {
		return err
	}
	w.suspect = false
	return w.emptyIfRemoved(old, w.mark.counts)
}

// finish ends the segment that is appended to.
func (w *wal) finish() error {
	st, err := w.seg.Stat()
	if err == nil && st.Size() > w.mark.end {
		err = w.seg.Truncate(w.mark.end)
	}
	if err == nil {
		err = w.flush(w.seg)
	}
	return err
}

// dropUnmarked removes a segment behind the one that the mark names: whoever
// made it died, or ran out of disk, before it was marked, and others went on
// without it. From the moment the mark passes it, it would be read.
func (w *wal) dropUnmarked() error {
	bases, err := segments(w.dir)
	if err != nil {
		return err
	}
	for _, base := range bases {
		if base > w.mark.base {
			if err := os.Remove(segmentPath(w.dir, base)); err != nil {
				return err
			}
		}
	}
	return nil
}

// rollFrom begins a segment at base; prev is where the one before it ended.
func (w *wal) rollFrom(prev, base uint64, counts []uint64) error {
	f, err := createSegment(w.dir, segmentInfo{base: base, prev: prev, counts: counts})
	if err != nil {
		return err
	}
	step("rolled")
	w.setActive(f, base)
	return w.writeMark(mark{base: base, end: segHeader, next: base, counts: counts})
}
