package kafkabus

import (
	"math/rand/v2"
	"testing"

	"github.com/dovetail-go/dovetail/driver/prefix"
)

func TestRuns_tell_a_successor_what_is_settled(t *testing.T) {
	for round := range 200 {
		rnd := rand.New(rand.NewPCG(1, uint64(round)))
		tr := prefix.New(5000)
		from := int64(rnd.IntN(1000))
		next := from
		done := map[int64]bool{}
		for range 1 + rnd.IntN(400) {
			if rnd.IntN(20) == 0 {
				next += int64(rnd.IntN(5)) // a gap
			}
			if err := tr.Add(uint64(next)); err != nil {
				t.Fatal(err)
			}
			next++
		}
		for pos := from; pos < next; pos++ {
			if rnd.IntN(3) > 0 && tr.IsOpen(uint64(pos)) {
				tr.Done(uint64(pos))
				done[pos] = true
			}
		}
		first, any := tr.First()
		text := encodeRuns(tr, int64(first), next, nil)
		if len(text) > maxMetadata {
			t.Fatalf("%d bytes of metadata", len(text))
		}
		rs := decodeRuns(text, int64(first))
		for pos := int64(first); any && pos < next; pos++ {
			if open := tr.IsOpen(uint64(pos)); open && rs.has(pos) {
				t.Fatalf("round %d: %d is open and the successor would pass over it", round, pos)
			} else if done[pos] && !rs.has(pos) {
				t.Fatalf("round %d: %d is settled and would come again", round, pos)
			}
		}
	}
}

// What does not fit is left out; nothing that is open is ever taken for settled.
func TestRuns_that_do_not_fit_are_cut_at_a_whole_run(t *testing.T) {
	tr := prefix.New(20_000)
	const n = 20_000
	for pos := range uint64(n) {
		if err := tr.Add(pos); err != nil {
			t.Fatal(err)
		}
	}
	for pos := uint64(1); pos < n; pos += 2 {
		tr.Done(pos)
	}
	text := encodeRuns(tr, 0, n, nil)
	if len(text) > maxMetadata || len(text) < maxMetadata/2 {
		t.Errorf("%d bytes of metadata, the server takes %d", len(text), maxMetadata)
	}
	rs := decodeRuns(text, 0)
	if len(rs) < 1000 {
		t.Errorf("only %d runs fit", len(rs))
	}
	for _, r := range rs {
		if r.from%2 != 1 || r.to != r.from+1 {
			t.Fatalf("a run from %d to %d", r.from, r.to)
		}
	}
}

// A successor that commits before it has read all that it was told of tells it to
// the next.
func TestRuns_beyond_what_was_read_are_handed_on(t *testing.T) {
	told := runs{{11, 15}, {20, 30}, {31, 40}}
	for next := int64(10); next <= 45; next++ {
		tr := prefix.New(100)
		for pos := int64(10); pos < next; pos++ {
			if err := tr.Add(uint64(pos)); err != nil {
				t.Fatal(err)
			}
			if told.has(pos) {
				tr.Done(uint64(pos))
			}
		}
		again := decodeRuns(encodeRuns(tr, 10, next, told), 10)
		for pos := int64(10); pos < 50; pos++ {
			if again.has(pos) != told.has(pos) {
				t.Fatalf("read up to %d: %d is done: %v, want %v", next, pos, again.has(pos), told.has(pos))
			}
		}
	}
}

func FuzzRuns(f *testing.F) {
	f.Add("dovetail:AQEB", int64(7))
	f.Add("member-1", int64(0))
	f.Fuzz(func(_ *testing.T, metadata string, offset int64) { // whatever others commit does no harm
		decodeRuns(metadata, offset).has(offset)
	})
}
