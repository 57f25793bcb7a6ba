//go:build linux || darwin

package filebus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
)

// fillUp sends while the kernel lets files grow to 50,000 bytes and then, what
// is due for another segment, to 1,000: writes end half done, as on a full disk.
// It journals what was confirmed.
func fillUp(ctx context.Context, c *Conn, journal *os.File) error {
	signal.Ignore(syscall.SIGXFSZ)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	limit := func(bytes uint64) error {
		return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: bytes, Max: old.Max})
	}
	send := func(from, n int, full bool) error {
		var ms []*driver.Message
		for i := range n {
			ms = append(ms, crashMessage(from+i))
		}
		err := c.Send(ctx, ms)
		var se *driver.SendError
		switch {
		case full && errors.As(err, &se) && len(se.Failures) == n && !se.Failures[0].Unknown:
			return nil
		case full:
			return fmt.Errorf("sent %d messages on a full disk: %v", n, err)
		case err == nil:
			for i := range n {
				fmt.Fprintf(journal, "sent %d\n", from+i)
			}
		}
		return err
	}
	return errors.Join(
		limit(50_000), send(0, 40, false), send(100, 10, true), send(40, 1, false), send(110, 10, true), // behind the mark
		limit(old.Cur), send(41, 9, false),
		limit(1000), send(120, 20, true), // a segment's header
		limit(old.Cur), send(50, 1, false), send(51, 49, false), send(100, 50, false))
}

// What does not fit is not sent, and nothing else suffers.
func TestSend_on_a_full_disk_sends_all_or_nothing(t *testing.T) {
	ct := newCrashTest(t)
	cmd := ct.start("full", "", 0)
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	want := map[string]bool{}
	for _, id := range ct.lines("sent") {
		want[id] = true
	}
	if len(want) != 150 {
		t.Fatalf("%d were sent, want 150", len(want))
	}
	r := ct.receiver(ct.open())
	for range 150 {
		d := ct.take(r, 1, true)[0]
		if d.Fault != nil || !want[d.Message.ID] {
			t.Fatalf("%q came, with fault %v", d.Message.ID, d.Fault)
		}
		delete(want, d.Message.ID)
	}
	ct.nothing(r)
}

// A full disk is emptied by those who receive. So they must not need room.
func TestGroup_has_the_room_for_its_cursors_from_the_beginning(t *testing.T) {
	drivertest.CheckLeaks(t)
	b := newBench(t, Options{Partitions: 3})
	b.open()
	f := must(os.Open(filepath.Join(b.opts.Dir, "channels", "orders", "groups", "worker", "cursors")))
	defer f.Close()
	st := must(f.Stat())
	if want := slotOffset(2, 1) + cursorRoom; st.Size() != want {
		t.Errorf("%d bytes, want %d", st.Size(), want)
	}
	for p := range 3 {
		for gen := range uint64(2) {
			at, err := f.Seek(slotOffset(p, gen), seekData)
			if err != nil || at != slotOffset(p, gen) {
				t.Errorf("partition %d, slot %d: the next byte on disk is %s, %v; want %d", p, gen, strconv.FormatInt(at, 10), err, slotOffset(p, gen))
			}
		}
	}
}
