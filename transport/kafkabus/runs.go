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

// encodeRuns says what is done from a position on: lengths of what is not done and
// what is, in turn. t knows it up to next; beyond, rest is done.
func encodeRuns(t *prefix.Tracker, from, next int64, rest runs) string {
	const room = (maxMetadata - len(runsPrefix)) * 3 / 4
	var (
		b      []byte
		fits   int // up to the end of a done run
		full   bool
		open   = true
		length uint64
	)
	flush := func() {
		b = binary.AppendUvarint(b, length)
		if full = full || len(b) > room; !open && !full {
			fits = len(b)
		}
		open, length = !open, 0
	}
	upTo := from
	add := func(end int64, isOpen bool) { // all from upTo on
		if end <= upTo {
			return
		}
		if isOpen != open {
			flush()
		}
		length += uint64(end - upTo)
		upTo = end
	}
	t.Runs(func(first, last uint64, isOpen bool) bool {
		add(int64(first), false) // a gap holds nothing that could come again
		add(int64(last)+1, isOpen)
		return !full
	})
	add(next, false)
	for _, r := range rest {
		if full {
			break
		}
		if r.to > upTo {
			add(r.from, true)
			add(r.to, false)
		}
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
