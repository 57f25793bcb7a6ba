package prefix_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/dovetail-go/dovetail/driver/prefix"
)

func Example() {
	t := prefix.New(100)
	for _, offset := range []uint64{7, 8, 9, 12} { // 10 and 11 were compacted away
		if err := t.Add(offset); err != nil {
			fmt.Println(err)
		}
	}
	for _, offset := range []uint64{9, 7, 12, 8} {
		upTo, advanced := t.Done(offset)
		fmt.Println(offset, "done: commit", upTo, advanced)
	}
	// Output:
	// 9 done: commit 0 false
	// 7 done: commit 7 true
	// 12 done: commit 7 false
	// 8 done: commit 12 true
}

// model is the tracker as one would write it without a thought for cost.
type model struct {
	limit int
	added []uint64
	done  map[uint64]bool
}

func (m *model) prefix() (upTo uint64, ok bool, beyond int) {
	for i, p := range m.added {
		if !m.done[p] {
			return upTo, ok, len(m.added) - i
		}
		upTo, ok = p, true
	}
	return upTo, ok, 0
}

// run plays a script of operations against tracker and model.
func run(t *testing.T, limit int, script []byte) {
	t.Helper()
	tr := prefix.New(limit)
	m := &model{limit: max(1, limit), done: map[uint64]bool{}}
	var next uint64
	for i, op := range script {
		_, _, beyond := m.prefix()
		switch {
		case op < 110: // add, with a gap now and then
			pos := next + uint64(op%5/4*op)
			err := tr.Add(pos)
			if full := beyond == m.limit; full != (err != nil) {
				t.Fatalf("step %d: Add(%d) with %d of %d held: %v", i, pos, beyond, m.limit, err)
			}
			if err == nil {
				m.added = append(m.added, pos)
				next = pos + 1
			}
		case op < 250: // settle something near the front
			if len(m.added) == 0 {
				continue
			}
			at := len(m.added) - 1 - int(op)%min(len(m.added), beyond+2)
			pos := m.added[max(0, at)]
			before, had, _ := m.prefix()
			m.done[pos] = true
			want, ok, _ := m.prefix()
			upTo, advanced := tr.Done(pos)
			if advanced != (want != before || ok != had) || ok && upTo != want {
				t.Fatalf("step %d: Done(%d) = %d, %t; want %d", i, pos, upTo, advanced, want)
			}
		case op < 252: // a position that was never added
			if upTo, advanced := tr.Done(next + 100); advanced {
				t.Fatalf("step %d: Done of an unknown position advanced to %d", i, upTo)
			}
		case op < 254 && len(m.added) > 0: // delivered again
			if err := tr.Add(m.added[len(m.added)-1]); err != nil {
				t.Fatalf("step %d: Add of the last position again: %v", i, err)
			}
		case op == 255:
			tr.Reset()
			m.added, m.done = nil, map[uint64]bool{}
			next = uint64(i) * 3 % 17 // anywhere, also before
		}
		want, ok, beyond := m.prefix()
		upTo, has := tr.Prefix()
		if has != ok || ok && upTo != want || tr.Len() != beyond || tr.Full() != (beyond == m.limit) {
			t.Fatalf("step %d: prefix %d, %t with %d beyond; want %d, %t with %d", i, upTo, has, tr.Len(), want, ok, beyond)
		}
		open := 0
		for _, p := range m.added {
			if !m.done[p] {
				open++
			}
			if tr.IsOpen(p) == m.done[p] {
				t.Fatalf("step %d: IsOpen(%d) = %t", i, p, tr.IsOpen(p))
			}
		}
		if tr.Open() != open {
			t.Fatalf("step %d: %d open, want %d", i, tr.Open(), open)
		}
		at := len(m.added) - beyond
		tr.Runs(func(first, last uint64, open bool) bool {
			for ; at < len(m.added) && m.added[at] <= last; at++ {
				if p := m.added[at]; p < first || open == m.done[p] {
					t.Fatalf("step %d: %d is not in the run from %d to %d, open %t", i, p, first, last, open)
				}
			}
			return true
		})
		if at != len(m.added) {
			t.Fatalf("step %d: the runs end before %d", i, m.added[at])
		}
	}
}

func TestTracker_agrees_with_a_plain_model(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		script := make([]byte, rnd.IntN(400))
		for i := range script {
			script[i] = byte(rnd.IntN(255))
			if rnd.IntN(80) == 0 {
				script[i] = 255
			}
		}
		run(t, 1+rnd.IntN(70), script)
	}
}

func FuzzTracker(f *testing.F) {
	f.Add(8, []byte{1, 2, 3, 200, 150, 120, 255, 1, 130})
	f.Add(1, []byte{0, 0, 255, 0, 111, 0})
	f.Fuzz(func(t *testing.T, limit int, script []byte) {
		if limit > 1000 || len(script) > 1000 {
			return // larger than it need be
		}
		run(t, limit, script)
	})
}

func TestTracker_is_full_until_the_first_is_settled(t *testing.T) {
	tr := prefix.New(3)
	for p := uint64(10); p < 13; p++ {
		if err := tr.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	tr.Done(11)
	tr.Done(12)
	if err := tr.Add(13); err == nil || !tr.Full() {
		t.Fatalf("Add to a full tracker: %v, Full %t", err, tr.Full())
	}
	if upTo, advanced := tr.Done(10); upTo != 12 || !advanced || tr.Full() {
		t.Fatalf("Done of the first: %d, %t, Full %t; want 12", upTo, advanced, tr.Full())
	}
	if err := tr.Add(13); err != nil {
		t.Fatal(err)
	}
}

func TestTracker_refuses_positions_that_go_back(t *testing.T) {
	tr := prefix.New(10)
	for _, p := range []uint64{5, 9} {
		if err := tr.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	if err := tr.Add(7); err == nil {
		t.Fatal("Add(7) after 9 was taken")
	}
	tr.Reset()
	if err := tr.Add(7); err != nil || tr.Term() != 1 {
		t.Fatalf("Add(7) after Reset: %v, term %d", err, tr.Term())
	}
}

func TestTracker_takes_the_whole_range_of_positions(t *testing.T) {
	tr := prefix.New(4)
	for _, p := range []uint64{0, 1, 1 << 63, math.MaxUint64} {
		if err := tr.Add(p); err != nil {
			t.Fatal(err)
		}
	}
	for _, p := range []uint64{math.MaxUint64, 1, 0} {
		tr.Done(p)
	}
	if upTo, ok := tr.Prefix(); upTo != 1 || !ok {
		t.Fatalf("prefix %d, want 1", upTo)
	}
	if first, ok := tr.First(); first != 1<<63 || !ok {
		t.Fatalf("first open %d, want %d", first, uint64(1)<<63)
	}
	if upTo, _ := tr.Done(1 << 63); upTo != math.MaxUint64 {
		t.Fatalf("prefix %d, want the last position", upTo)
	}
}

func TestTracker_does_not_allocate_once_grown(t *testing.T) {
	tr := prefix.New(256)
	var next uint64
	if n := testing.AllocsPerRun(100, func() {
		for p := next; p < next+256; p++ {
			_ = tr.Add(p)
		}
		for p := next + 256; p > next; p-- {
			tr.Done(p - 1)
		}
		next += 256
	}); n != 0 {
		t.Fatalf("%v allocations per 256 positions", n)
	}
}

// One position that is held for long must cost no memory for all that is done
// behind it.
func TestTracker_keeps_what_is_done_as_runs(t *testing.T) {
	tr := prefix.New(1 << 20)
	var next uint64
	more := func() {
		for range 1000 {
			if err := tr.Add(next); err != nil {
				t.Fatal(err)
			}
			if next > 0 {
				tr.Done(next)
			}
			next++
		}
	}
	more()
	if n := testing.AllocsPerRun(100, more); n != 0 {
		t.Fatalf("%v allocations per 1000 positions behind one that is open", n)
	}
	if runs := 0; tr.Len() != int(next) {
		t.Fatalf("%d positions are held, want %d", tr.Len(), next)
	} else if tr.Runs(func(_, _ uint64, _ bool) bool { runs++; return true }); runs > 64 {
		t.Fatalf("they are %d runs", runs)
	}
}

func BenchmarkTracker(b *testing.B) {
	for _, gap := range []uint64{1, 7} {
		b.Run(fmt.Sprintf("gap=%d", gap-1), func(b *testing.B) {
			tr := prefix.New(1024)
			var next uint64
			b.ReportAllocs()
			for done := 0; done < b.N; done += 512 {
				first := next
				for range 512 {
					if err := tr.Add(next); err != nil {
						b.Fatal(err)
					}
					next += gap
				}
				for i := range uint64(512) { // out of order: a permutation of the 512
					tr.Done(first + i*77%512*gap)
				}
			}
		})
	}
}
