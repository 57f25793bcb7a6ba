// Package keytest checks, for the tests of transports with a driver.Widener, what
// becomes of other keys while one fails.
package keytest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// What is sent: Failing messages of one key, and then Others over 26 keys. A
// service's default window has room for fewer than Failing.
const (
	Failing = 4000
	Others  = 1000
)

// patience bounds every wait, on a machine that does much else.
const patience = 2 * time.Minute

type item struct {
	Key string
	N   int
}

// Check runs a service in which one key fails. It wants the messages of other
// keys to be handled meanwhile, and those of the key in order once it works.
func Check(t *testing.T, conn driver.Conn, options dovetail.Options, partitions int) {
	t.Helper()
	options.Logger = slog.New(slog.DiscardHandler)
	options.Retry = dovetail.RetryPolicy{Attempts: 1000, First: time.Second, Factor: 1}
	svc := dovetail.New("keytest", conn, options)
	name := fmt.Sprintf("keytest-%d", time.Now().UnixNano())
	work := dovetail.NewCommand[item](name).On(dovetail.NewChannel(name).Partitions(partitions)).Keyed(func(i item) string { return i.Key })
	var broken atomic.Bool
	broken.Store(true)
	var others, next atomic.Int64
	failed, done, all := make(chan struct{}), make(chan struct{}), make(chan struct{})
	work.Handle(svc, func(_ context.Context, i item) error {
		switch {
		case i.Key != "bad":
			if others.Add(1) == Others {
				close(done)
			}
		case broken.Load():
			if i.N != 0 {
				t.Errorf("message %d of the key is handled while the first fails", i.N)
			}
			select {
			case <-failed:
			default:
				close(failed)
			}
			return errors.New("not yet")
		case int64(i.N) > next.Load():
			t.Errorf("message %d of the key is handled, want %d", i.N, next.Load())
		case int64(i.N) == next.Load(): // else it came again
			if next.Add(1) == Failing {
				close(all)
			}
		}
		return nil
	})
	svc.Declare(work)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(ctx) }()
	defer func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("run: %v", err)
		}
	}()
	await := func(what string, c <-chan struct{}) time.Duration {
		t.Helper()
		began := time.Now()
		select {
		case <-c:
		case <-time.After(patience):
			t.Fatalf("%s: not within %v; %d of other keys are handled, and %d of the key", what, patience, others.Load(), next.Load())
		}
		return time.Since(began)
	}
	await("the service to be ready", svc.Ready())
	bad := make([]item, Failing)
	for n := range bad {
		bad[n] = item{"bad", n}
	}
	good := make([]item, Others)
	for n := range good {
		good[n] = item{"good " + string(rune('a'+n%26)), n}
	}
	if err := work.SendAll(ctx, svc, bad); err != nil {
		t.Fatal(err)
	}
	await("the key to fail", failed)
	if err := work.SendAll(ctx, svc, good); err != nil {
		t.Fatal(err)
	}
	t.Logf("%d messages of other keys were handled in %v", Others, await("the others", done).Round(time.Millisecond))
	broken.Store(false)
	t.Logf("%d messages of the key were handled in %v", Failing, await("the key", all).Round(time.Millisecond))
}
