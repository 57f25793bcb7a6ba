package drivertest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// eventually looks at done now and then until it is true.
func (e *env) eventually(what string, done func() bool) {
	e.Helper()
	ctx, cancel := e.within()
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			e.Fatalf("waited %v in vain for: %s", e.h.Patience, what)
		}
	}
}

// await waits for ch to be closed or to deliver.
func await[V any](e *env, ch <-chan V, what string) V {
	e.Helper()
	timer := time.NewTimer(e.h.Patience)
	defer timer.Stop()
	select {
	case v := <-ch:
		return v
	case <-timer.C:
		e.Fatalf("waited %v in vain for: %s", e.h.Patience, what)
		panic("unreachable")
	}
}

// wantKind checks that err is there and of that kind, by the transport's own
// reckoning; of a SendError every failure must be.
func (e *env) wantKind(c driver.Conn, err error, want driver.Kind, what string) {
	e.Helper()
	if err == nil {
		e.Fatalf("%s: no error, want one that is %q", what, want)
	}
	if se := (*driver.SendError)(nil); errors.As(err, &se) {
		for _, f := range se.Failures {
			if k := c.Classify(f.Err); k != want {
				e.Fatalf("%s: message %d: %v is %q, want %q", what, f.Index, f.Err, k, want)
			}
		}
		return
	}
	if k := c.Classify(err); k != want {
		e.Fatalf("%s: %v is %q, want %q", what, err, k, want)
	}
}

// ids lists deliveries for a failure's message, at most twenty.
func ids(ds []*driver.Delivery) string {
	var b strings.Builder
	for i, d := range ds {
		if i == 20 {
			fmt.Fprintf(&b, " … %d more", len(ds)-i)
			break
		}
		fmt.Fprintf(&b, " %s", d.Message.ID)
		if d.Attempt > 1 {
			fmt.Fprintf(&b, "(attempt %d)", d.Attempt)
		}
	}
	return "[" + strings.TrimSpace(b.String()) + "]"
}
