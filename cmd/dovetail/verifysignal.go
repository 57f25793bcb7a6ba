package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// endsEarly returns a context that ends with ctx, and when the terminal goes away
// (SIGHUP), unless that is ignored as with nohup: nodes that are frozen or killed are
// to be brought back. Once it has ended, a second signal ends the program at once.
func endsEarly(ctx context.Context) (context.Context, func()) {
	stop := func() {}
	if !signal.Ignored(syscall.SIGHUP) {
		ctx, stop = signal.NotifyContext(ctx, syscall.SIGHUP)
	}
	idle := context.AfterFunc(ctx, func() { signal.Reset(os.Interrupt, syscall.SIGTERM) })
	return ctx, func() {
		idle()
		stop()
	}
}
