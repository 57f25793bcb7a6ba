package filebus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
)

// records returns where the records of a segment begin, and its end.
func (b *bench) records(path string) []int64 {
	b.Helper()
	f, err := os.Open(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		b.Fatal(err)
	}
	base, _ := strconv.ParseUint(filepath.Base(path)[:20], 10, 64)
	s := scanner{f: f, off: segHeader, limit: st.Size(), seq: base}
	at := []int64{s.off}
	for {
		if _, err := s.next(); err != nil {
			return at
		}
		at = append(at, s.off)
	}
}

func (b *bench) mark() string {
	return filepath.Join(b.opts.Dir, "channels", b.ch.Name, "log", "mark")
}

func numbers(from, to int) []string {
	var s []string
	for i := from; i < to; i++ {
		s = append(s, strconv.Itoa(i))
	}
	return s
}

// A power cut may leave any prefix of what was written last, and a mark that is
// older or newer than that.
func TestLog_torn_anywhere_keeps_exactly_the_sound_prefix(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{Sync: SyncOS, Partitions: 2})
	c := b.open()
	b.send(c, 0, 5)
	b.send(c, 5, 2)
	b.close(c)
	seg := b.lastSegment()
	whole, err := os.ReadFile(seg)
	if err != nil {
		t.Fatal(err)
	}
	at := b.records(seg)
	if len(at) != 8 {
		t.Fatalf("%d records, want 7", len(at)-1)
	}
	marks, err := os.ReadFile(b.mark())
	if err != nil {
		t.Fatal(err)
	}
	for cut := at[5]; cut <= at[7]; cut++ {
		for name, mark := range map[string][]byte{"mark": marks, "no mark": nil, "damaged mark": bytes.Repeat([]byte{7}, len(marks))} {
			if name != "mark" && cut%11 != 0 && cut != at[7] {
				continue
			}
			write(t, seg, whole[:cut])
			write(t, b.mark(), mark)
			sound := 0
			for sound < 7 && at[sound+1] <= cut {
				sound++
			}
			c := b.open()
			page, err := c.Browse(b.ctx(), b.ch.Name, "", 100)
			if err != nil {
				t.Fatalf("cut at %d, %s: %v", cut, name, err)
			}
			if len(page) != sound {
				t.Fatalf("cut at %d, %s: %d messages, want %d", cut, name, len(page), sound)
			}
			b.send(c, 100, 1)
			page, err = c.Browse(b.ctx(), b.ch.Name, "", 100)
			if err != nil || len(page) != sound+1 || page[sound].Message.ID != "100" {
				t.Fatalf("cut at %d, %s: %d messages after one more was sent, %v", cut, name, len(page), err)
			}
			b.close(c)
			for _, p := range must(filepath.Glob(filepath.Join(filepath.Dir(seg), "*.seg")))[1:] {
				os.Remove(p)
			}
		}
	}
}

func write(t testing.TB, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func must[V any](v V, err error) V {
	if err != nil {
		panic(err)
	}
	return v
}

// Whoever died between writing and marking confirmed nothing, and nobody has
// read what it wrote.
func TestLog_bytes_behind_the_mark_are_cut_off(t *testing.T) {
	b := newBench(t, Options{})
	c := b.open()
	b.send(c, 0, 5)
	r := b.receiver(c)
	f := must(os.OpenFile(b.lastSegment(), os.O_WRONLY|os.O_APPEND, 0))
	extra := appendRecord(nil, b.message(99), 0)
	stamp(extra, 5, 8)
	must(f.Write(append(extra, "torn"...)))
	f.Close()
	b.take(r, 5, true)
	b.nothing(r)
	b.send(c, 5, 1)
	if got := b.take(r, 1, true); got[0].Message.ID != "5" {
		t.Fatalf("got %s, want 5", ids(got))
	}
	b.nothing(r)
}

// After a loss of power a cursor may be on disk and what it has read not. The
// sequence numbers in between must not be given again.
func TestLog_that_lost_what_a_cursor_has_passed_goes_on_beyond_it(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{Sync: SyncOS})
	c := b.open()
	b.send(c, 0, 20)
	r := b.receiver(c)
	b.take(r, 20, true)
	b.close(c)
	seg := b.lastSegment()
	if err := os.Truncate(seg, b.records(seg)[5]); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(b.mark()); err != nil {
		t.Fatal(err)
	}
	c = b.open()
	b.send(c, 20, 20)
	r = b.receiver(c)
	got := ids(b.take(r, 20, true))
	if !slices.Equal(got, numbers(20, 40)) {
		t.Fatalf("got %v, want 20 to 39", got)
	}
	if n, err := r.Backlog(b.ctx()); n != 0 || err != nil {
		t.Errorf("backlog %d, %v; want 0", n, err)
	}
}

// Bit rot costs the message it hit, says so, and nothing else.
func TestLog_damaged_in_the_middle_is_reported_and_read_on(t *testing.T) {
	drivertest.CheckLeaks(t)
	for name, hit := range map[string]func(seg []byte, at []int64){
		"payload":          func(seg []byte, at []int64) { seg[at[4]+recordHeader+20] ^= 1 },
		"header":           func(seg []byte, at []int64) { seg[at[4]+9] ^= 1 },
		"length":           func(seg []byte, at []int64) { binary.LittleEndian.PutUint32(seg[at[4]+16:], 1<<31) },
		"zeros":            func(seg []byte, at []int64) { clear(seg[at[4]:at[5]]) },
		"two records":      func(seg []byte, at []int64) { clear(seg[at[4]+1 : at[6]-1]) },
		"the last record":  func(seg []byte, at []int64) { clear(seg[at[9]:]) },
		"the first record": func(seg []byte, at []int64) { clear(seg[at[0] : at[0]+5]) },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, Options{Partitions: 2})
			c := b.open()
			b.send(c, 0, 10)
			r := b.receiver(c)
			path := b.lastSegment()
			data := must(os.ReadFile(path))
			hit(data, b.records(path))
			f := must(os.OpenFile(path, os.O_WRONLY, 0))
			must(f.WriteAt(data, 0))
			f.Close()
			faults, sound := 0, map[string]bool{}
			want := 9
			if name == "two records" {
				want = 8
			}
			for len(sound) < want || faults == 0 {
				d := b.take(r, 1, false)[0]
				if d.Fault != nil {
					faults++
					if !errors.Is(d.Fault, errDamaged) || len(d.Message.Body) == 0 {
						t.Errorf("fault %v with %d bytes", d.Fault, len(d.Message.Body))
					}
					// It can be put off and comes again, like any other.
					b.settle(r, driver.Retry, d)
					again := b.take(r, 1, true)[0]
					if again.Fault == nil || again.Attempt != 2 || !bytes.Equal(again.Message.Body, d.Message.Body) {
						t.Errorf("put off, it came as attempt %d with fault %v", again.Attempt, again.Fault)
					}
					continue
				}
				sound[d.Message.ID] = true
				b.settle(r, driver.Ack, d)
			}
			if faults != 1 {
				t.Errorf("%d faults, want 1", faults)
			}
			b.send(c, 10, 1)
			if got := b.take(r, 1, true); got[0].Message.ID != "10" {
				t.Errorf("got %s, want 10", ids(got))
			}
			b.nothing(r)
		})
	}
}

// A mark of before the machine was started again still tells damage from what
// was never synced.
func TestLog_damaged_at_its_end_is_not_taken_for_torn(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{})
	c := b.open()
	b.send(c, 0, 3)
	b.close(c)
	data := must(os.ReadFile(b.lastSegment()))
	data[len(data)-1] ^= 1
	write(t, b.lastSegment(), data)
	old := mark{counts: make([]uint64, 8)}
	buf := must(os.ReadFile(b.mark()))
	if !old.decode(buf) {
		t.Fatal("the mark cannot be read")
	}
	old.boot++
	old.encode(buf)
	write(t, b.mark(), buf)
	c = b.open()
	b.send(c, 3, 1)
	faults := 0
	for _, d := range b.take(b.receiver(c), 4, true) {
		if d.Fault != nil {
			faults++
		}
	}
	if faults != 1 {
		t.Errorf("%d faults among four messages, want 1", faults)
	}
}

// A power cut may tear both slots of a cursor. Segments are deleted when every
// cursor on disk has passed them: the oldest that is left is a place to go on
// from, with repetitions.
func TestReceiver_whose_cursor_is_torn_goes_on_from_the_oldest_segment(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{SegmentBytes: 64 << 10, Partitions: 1})
	c := b.open()
	r := b.receiver(c)
	b.sendBig(c, 0, 40)
	b.take(r, 40, true)
	b.sendBig(c, 40, 5)
	b.eventually("segments to be deleted", func() bool { c.channels[b.ch.Name].retain(); return b.segments() < 3 })
	b.close(c)
	f := must(os.OpenFile(filepath.Join(b.opts.Dir, "channels", "orders", "groups", "worker", "cursors"), os.O_RDWR, 0))
	for gen := range uint64(2) {
		must(f.WriteAt([]byte("torn"), slotOffset(0, gen)+slotHeader/2))
	}
	f.Close()
	c = b.open()
	r = b.receiver(c)
	for {
		d := b.take(r, 1, true)[0]
		if d.Message.ID == "44" {
			break
		}
	}
	if n, err := r.Backlog(b.ctx()); n != 0 || err != nil {
		t.Errorf("backlog %d, %v; want 0", n, err)
	}
}

// A process that the kernel put aside while it wrote the mark leaves it half
// written for a while.
func TestReceiver_waits_for_a_mark_that_is_being_written(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{})
	c := b.open()
	b.send(c, 0, 3)
	r := b.receiver(c)
	f := must(os.OpenFile(b.mark(), os.O_RDWR, 0))
	defer f.Close()
	whole := must(os.ReadFile(b.mark()))
	must(f.WriteAt([]byte("half"), 0))
	time.AfterFunc(50*time.Millisecond, func() { f.WriteAt(whole, 0) })
	b.take(r, 3, true)
}

func TestReceiver_of_a_log_whose_segments_were_deleted_by_hand_says_so(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{SegmentBytes: 64 << 10})
	c := b.open()
	for i := range 40 {
		m := b.message(i)
		m.Body = make([]byte, 8<<10)
		if err := c.Send(b.ctx(), []*driver.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	segs := must(filepath.Glob(filepath.Join(b.opts.Dir, "channels", b.ch.Name, "log", "*.seg")))
	if len(segs) < 4 {
		t.Fatalf("%d segments, want some more", len(segs))
	}
	if err := os.Remove(segs[0]); err != nil {
		t.Fatal(err)
	}
	r := b.receiver(c)
	_, err := r.Receive(b.ctx(), 10)
	if c.Classify(err) != driver.PositionLost {
		t.Fatalf("receive: %v, want ErrPositionLost", err)
	}
}
