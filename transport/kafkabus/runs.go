package kafkabus

import (
	"encoding/base64"
	"encoding/binary"
	"sort"
	"strings"

	"github.com/dovetail-go/dovetail/driver/prefix"
)

// runs are offsets beyond a committed one that are settled as well, ascending.
// They travel in the commit's metadata, so that a successor passes over them:
// an offset alone would have it handle again what was settled out of order.
type runs []run

type run struct{ from, to int64 } // to is not in it

const (
	runsPrefix = "dovetail:"
	// maxMetadata stays below the 4096 bytes that servers keep by default
	// (offset.metadata.max.bytes). What does not fit comes again.
	maxMetadata = 4000
)

// encodeRuns says what is done in t between its first open position and next:
// lengths of what is open and what is done, in turn.
func encodeRuns(t *prefix.Tracker, next int64) string {
	first, any := t.First()
	if !any || t.Open() == t.Len() {
		return ""
	}
	const room = (maxMetadata - len(runsPrefix)) * 3 / 4
	b := make([]byte, 0, 64)
	fits := 0 // up to the end of a done run
	open, length := true, uint64(0)
	flush := func() bool {
		b = binary.AppendUvarint(b, length)
		if len(b) > room {
			return false
		}
		if !open {
			fits = len(b)
		}
		open, length = !open, 0
		return true
	}
	for pos := first; pos < uint64(next); pos++ {
		if t.IsOpen(pos) != open && !flush() {
			break
		}
		length++
	}
	if !open {
		flush()
	}
	if fits == 0 {
		return ""
	}
	return runsPrefix + base64.RawStdEncoding.EncodeToString(b[:fits])
}

// decodeRuns reads what encodeRuns wrote beside offset. What is none of ours
// holds nothing.
func decodeRuns(metadata string, offset int64) runs {
	text, ok := strings.CutPrefix(metadata, runsPrefix)
	if !ok {
		return nil
	}
	b, err := base64.RawStdEncoding.DecodeString(text)
	if err != nil {
		return nil
	}
	var rs runs
	for done := false; len(b) > 0; done = !done {
		length, n := binary.Uvarint(b)
		if n <= 0 || length > 1<<32 {
			return nil
		}
		b = b[n:]
		if done {
			rs = append(rs, run{offset, offset + int64(length)})
		}
		offset += int64(length)
	}
	return rs
}

func (rs runs) has(offset int64) bool {
	if len(rs) == 0 {
		return false
	}
	i := sort.Search(len(rs), func(i int) bool { return rs[i].to > offset })
	return i < len(rs) && rs[i].from <= offset
}
