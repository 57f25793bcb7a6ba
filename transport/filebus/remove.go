package filebus

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"os"
)

// remove marks records as removed, in place: one byte each. A segment whose
// records were all removed is emptied, the one that is appended to when the
// next begins, and deleted if it is the oldest. The append lock is held.
func (w *wal) remove(at []position) error {
	for len(at) > 0 {
		n := 1
		for n < len(at) && at[n].base == at[0].base {
			n++
		}
		if err := w.removeFrom(at[0].base, at[:n]); err != nil {
			return err
		}
		at = at[n:]
	}
	return nil
}

func (w *wal) removeFrom(base uint64, at []position) error {
	f, info, err := openSegment(w.dir, base, w.parts)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if info.removing {
		if info.removed, err = w.recount(f, info); err != nil {
			return err
		}
	}
	if _, err := f.WriteAt([]byte{1}, segRemoving); err != nil {
		return err
	}
	head := make([]byte, recordHeader)
	for _, p := range at {
		if _, err := f.ReadAt(head, p.off); err == io.EOF {
			continue
		} else if err != nil {
			return err
		}
		h, ok := parseHeader(head)
		if !ok || h.seq != p.seq || h.removed {
			continue
		}
		if _, err := f.WriteAt([]byte{1}, p.off+recordRemoved); err != nil {
			return err
		}
		info.removed++
	}
	step("removing")
	tail := make([]byte, segHeader-segRemoving)
	binary.LittleEndian.PutUint64(tail[segRemoved-segRemoving:], info.removed)
	if _, err := f.WriteAt(tail, segRemoving); err != nil {
		return err
	}
	if w.sync {
		if err := syncData(f); err != nil {
			return err
		}
	}
	if base == w.mark.base {
		return nil
	}
	bases, err := segments(w.dir)
	if err != nil {
		return err
	}
	for _, b := range bases {
		if b > base {
			next, ok, err := readInfo(w.dir, b, w.parts)
			if err != nil || !ok {
				return err
			}
			return w.emptyIf(f, info, next.counts)
		}
	}
	return nil
}

// recount counts the removed records of a segment whose count was not written
// because a process died while it removed some.
func (w *wal) recount(f *os.File, info segmentInfo) (uint64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	s := scanner{f: f, off: segHeader, limit: st.Size(), seq: info.base}
	var n uint64
	for {
		rec, err := s.next()
		if err == io.EOF || err == io.ErrUnexpectedEOF {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
		if rec.removed {
			n++
		}
	}
}

// emptyIfRemoved empties a segment that nothing is appended to any more.
func (w *wal) emptyIfRemoved(base uint64, after []uint64) error {
	f, info, err := openSegment(w.dir, base, w.parts)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	defer f.Close()
	return w.emptyIf(f, info, after)
}

// emptyIf gives back the space of a segment if all its records were removed.
func (w *wal) emptyIf(f *os.File, info segmentInfo, after []uint64) error {
	if info.removed == 0 || info.removed < total(after)-total(info.counts) {
		return nil
	}
	if err := f.Truncate(segHeader); err != nil {
		return err
	}
	return w.dropEmptied()
}

// dropEmptied deletes the oldest segments as far as they are empty, unless a
// cursor may point into them: then they go once all have passed, as others do.
func (w *wal) dropEmptied() error {
	if w.unread == nil {
		return nil
	}
	unread, err := w.unread()
	if err != nil || !unread {
		return err
	}
	bases, err := segments(w.dir)
	if err != nil {
		return err
	}
	for _, base := range bases {
		st, err := os.Stat(segmentPath(w.dir, base))
		if err != nil || base >= w.mark.base || st.Size() > segHeader {
			return err
		}
		if err := os.Remove(segmentPath(w.dir, base)); err != nil {
			return err
		}
	}
	return nil
}

// atRest counts the records that were not removed. It may be too high for a
// moment after a process died while it removed some.
func (w *wal) atRest(m *mark) (int64, error) {
	bases, err := segments(w.dir)
	if err != nil {
		return 0, err
	}
	var n uint64
	for i, base := range marked(bases, m) {
		info, ok, err := readInfo(w.dir, base, w.parts)
		if err != nil {
			return 0, err
		}
		if !ok {
			continue
		}
		if i == 0 {
			n = total(m.counts) - total(info.counts)
		}
		n -= min(n, info.removed)
	}
	return int64(n), nil
}
