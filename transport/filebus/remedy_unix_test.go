//go:build linux || darwin

package filebus

import (
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
)

// openFiles lets this process open n more files than it has, or as many as
// before for a negative n.
func openFiles(t *testing.T, old syscall.Rlimit, n int) {
	t.Helper()
	limit := old
	if n >= 0 {
		next := must(os.Open(os.DevNull))
		limit.Cur = uint64(next.Fd()) + uint64(n)
		if err := next.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
}

// Wherever the files run out, the error names the limit; raised, everything is
// there. What could not be opened is not taken for damaged.
func TestOpen_without_files_left_works_once_the_limit_is_raised(t *testing.T) {
	drivertest.CheckLeaks(t)
	w := newWreck(t)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { openFiles(t, old, -1) })
	once := func() (err error) {
		if err := os.Remove(w.mark()); err != nil && !errors.Is(err, os.ErrNotExist) { // the last segment is read
			return err
		}
		c, err := Open(w.ctx(), w.opts)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, c.Close(w.ctx())) }()
		if err := c.Provision(w.ctx(), []driver.Channel{w.ch}, []driver.Subscription{w.sub}); err != nil {
			return err
		}
		_, err = c.OpenReceiver(w.ctx(), w.sub)
		return err
	}
	failed := 0
	for n := 0; ; n++ {
		openFiles(t, old, n)
		err := once()
		openFiles(t, old, -1)
		if err == nil {
			break
		}
		failed++
		if driver.Classify(err) != driver.Retryable || !strings.Contains(err.Error(), "raise the limit of open files (ulimit -n)") || strings.Contains(err.Error(), "restore") {
			t.Errorf("with %d files: %v", n, err)
		}
	}
	if failed < 5 {
		t.Errorf("%d failed, want more", failed)
	}
	w.handles("once it was raised", numbers(3, 30))
}
