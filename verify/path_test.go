package verify

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/dovetail-go/dovetail/internal/leak"
	_ "github.com/dovetail-go/dovetail/transport/membus"
)

func TestPaths_have_contracts_and_keys_of_their_own(t *testing.T) {
	j := job{Run: "r1"}
	seen := map[string]string{}
	for _, name := range append([]string{""}, Paths()...) {
		for _, e := range j.events(name) {
			if err := e.Err(); err != nil {
				t.Errorf("path %q: %v", name, err)
			}
			if other, ok := seen[e.Spec().Type()]; ok && other != name {
				t.Errorf("paths %q and %q share contract %s", name, other, e.Spec().Type())
			}
			seen[e.Spec().Type()] = name
		}
		if name != "" && (PathOf(keyOf(name, 3)) != name || pathOf(name) == nil) {
			t.Errorf("key %s is not of path %s", keyOf(name, 3), name)
		}
	}
	if PathOf("key-00001") != "" || PathOf("long-writer-1") != "" {
		t.Error("keys of the main path are of another")
	}
}

func TestTorn_notes_cannot_be_decoded(t *testing.T) {
	b, err := torn{}.Marshal(Note{Key: "a", N: 1, Text: "x"})
	if err != nil || json.Valid(b) {
		t.Errorf("%s, %v: want half of a note", b, err)
	}
}

func TestLetters_are_counted_and_those_of_requeues_sent_again(t *testing.T) {
	leak.Check(t)
	ctx := t.Context()
	conn, err := driver.Open(ctx, "mem:verify-letters")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	r := &run{id: "r1", caps: driver.Capabilities{Order: driver.OrderOwner},
		groups: []Group{{Name: "all"}, {Name: poison, Path: poison}, {Name: requeues, Path: requeues}}}
	r.Consumers = 1
	svc, err := dovetail.Open(ctx, groupName(r.id, "all"), "mem:verify-letters", dovetail.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	j := &job{Run: r.id}
	handled := make(chan Note, 10)
	for _, name := range []string{poison, requeues} {
		j.events(name)[0].Subscribe(svc, func(ctx context.Context, n Note) error {
			if dovetail.DeliveryFromContext(ctx).Requeues == 0 {
				return dovetail.Permanent(errors.New("not yet"))
			}
			handled <- n
			return nil
		})
		svc.Declare(j.events(name)[0])
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(running) }()
	<-svc.Ready()
	for _, name := range []string{poison, requeues} {
		if err := j.events(name)[0].Publish(ctx, svc, Note{Key: keyOf(name, 1), N: 7}, dovetail.ID("of "+name+badMark)); err != nil {
			t.Fatal(err)
		}
	}
	l := &letters{run: r, conn: conn, browser: conn.(driver.Browser)}
	until(t, "both letters, and one to be sent again", func() bool {
		l.look(ctx)
		return l.requeued == 1 && l.counts()[poison] == 1
	})
	if n := <-handled; n.Key != keyOf(requeues, 1) || n.N != 7 {
		t.Errorf("handled %+v, want what was sent again", n)
	}
	until(t, "the letter to be gone", func() bool {
		l.look(ctx)
		return len(l.kept[requeues]) == 0
	})
	if l.err != nil || !l.kept[poison]["of "+poison+badMark] || l.requeued != 1 {
		t.Errorf("%v, kept %v, sent again %d", l.err, l.kept, l.requeued)
	}
	busy := &busyBrowser{l.browser, 2}
	l.browser = busy
	if l.lookWell(ctx); l.err != nil || busy.refusals != 0 {
		t.Errorf("the last look gives up: %v", l.err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestEpisode_tells_how_long_it_was(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var held atomic.Bool
		e := &episode{hold: func(context.Context) (func() error, error) {
			held.Store(true)
			return func() error { held.Store(false); return nil }, nil
		}}
		go e.keepAway(t.Context(), 45*time.Second, func() int64 { return 3 })
		backoff.Sleep(t.Context(), time.Second)
		if !held.Load() || !e.is() {
			t.Error("the database is not away")
		}
		backoff.Sleep(t.Context(), 44*time.Second)
		synctest.Wait()
		if held.Load() || e.is() {
			t.Error("the database is not back")
		}
		if o := e.report(40); o == nil || *o != (Outage{Seconds: 45, Lines: 37}) || time.Since(e.to) > time.Second {
			t.Errorf("%+v, want 45 s, with 37 lines", o)
		}
	})
	if (*episode)(nil).report(1) != nil || (&episode{}).report(1) != nil {
		t.Error("a run without one reports one")
	}
}

// busyBrowser is a browser that refuses a few times.
type busyBrowser struct {
	driver.Browser
	refusals int
}

func (b *busyBrowser) Browse(ctx context.Context, channel, after string, max int) ([]driver.StoredMessage, error) {
	if b.refusals > 0 {
		b.refusals--
		return nil, driver.ErrRetryable
	}
	return b.Browser.Browse(ctx, channel, after, max)
}
