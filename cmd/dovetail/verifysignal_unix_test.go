//go:build unix

package main

import (
	"os/signal"
	"syscall"
	"testing"
	"time"
)

func TestVerify_ends_early_when_the_terminal_goes_away_unless_that_is_ignored(t *testing.T) {
	ctx, stop := endsEarly(t.Context())
	defer stop()
	ignored := signal.Ignored(syscall.SIGHUP) // these tests run under nohup
	if err := syscall.Kill(syscall.Getpid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	patience := 20 * time.Second
	if ignored {
		patience = 100 * time.Millisecond
	}
	select {
	case <-ctx.Done():
		if ignored {
			t.Error("it ends, though the signal is ignored")
		}
	case <-time.After(patience):
		if !ignored {
			t.Error("it goes on")
		}
	}
}
