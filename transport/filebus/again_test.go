//go:build linux || darwin

package filebus

import (
	"errors"
	"os/signal"
	"slices"
	"syscall"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
)

// A settlement that could not be written down before its partition went to another
// receiver is not taken: the message comes again there, and a second Settle says so.
func TestSettle_again_names_what_was_not_written_before_its_partition_went(t *testing.T) {
	b := newBench(t, Options{Partitions: 1})
	c := b.open()
	b.sendBig(c, 0, 1)
	r := b.receiver(c)
	ds := b.take(r, 1, false)
	r.mu.Lock()
	err := r.revoke(1)
	r.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	done := []driver.Settlement{{Delivery: ds[0]}}
	if err := onFullDisk(t, func() error { return r.Settle(t.Context(), done) }); err == nil {
		t.Fatal("it was written to a full disk")
	}
	var stale *driver.StaleError
	if err := r.Settle(t.Context(), done); !errors.As(err, &stale) || !slices.Equal(stale.Indexes, []int{0}) {
		t.Errorf("%v: want the message named", err)
	}
	b.close(c)
}

// onFullDisk calls f while the kernel lets this process write to no file.
func onFullDisk(t *testing.T, f func() error) error {
	t.Helper()
	signal.Ignore(syscall.SIGXFSZ)
	defer signal.Reset(syscall.SIGXFSZ)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
			t.Fatal(err)
		}
	}()
	return f()
}
