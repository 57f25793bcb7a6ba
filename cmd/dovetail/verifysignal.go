package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"github.com/dovetail-go/dovetail/verify"
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

// showProgress returns what shows how far a run is, and in the end removes that.
func (v *verification) showProgress(ctx context.Context) (show func(verify.Progress), end func()) {
	p, phase, said := v.a.progress(), "", false
	return func(n verify.Progress) {
		if ctx.Err() != nil && !said {
			said = true
			p.end()
			v.a.note("ending: nodes are brought back, and what was written is compared. A second Ctrl-C ends at once, and leaves nodes, tables and channels as they are.")
		}
		p.text(verifyLine(n), n.Phase != phase)
		phase = n.Phase
	}, p.end
}
