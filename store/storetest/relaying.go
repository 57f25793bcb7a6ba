package storetest

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
)

// relay runs a relay on the store until the test ends.
func (e *env[Tx]) relay() *outbox.Box[Tx] {
	e.Helper()
	svc := newService(e.T, e.dir, "relay", faults{})
	box := outbox.New(svc, e.DB, outbox.Options{Poll: 5 * time.Millisecond, CursorInterval: time.Millisecond})
	ctx, cancel := context.WithCancel(e.ctx)
	ended := make(chan error, 1)
	go func() { ended <- svc.component.Run(ctx) }()
	e.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			e.Error(err)
		}
	})
	return box
}

// published are the ids that the broker got.
func (e *env[Tx]) published() []string {
	e.Helper()
	text, err := os.ReadFile(filepath.Join(e.dir, "broker"))
	e.must(err)
	all := []string{}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); !strings.HasPrefix(line, remark) {
			all = append(all, line)
		}
	}
	return all
}

// eventually waits for what a relay does.
func (e *env[Tx]) eventually(what string, ok func() bool) {
	e.Helper()
	deadline := time.After(20 * time.Second)
	for !ok() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			e.Fatalf("timed out waiting until %s; the broker got %v", what, e.published())
		}
	}
}

// relayUnreadable has a relay meet rows that cannot be read: all others pass, and
// what waits in a key passes when its first was edited.
func (suite[Tx]) relayUnreadable(e *env[Tx]) {
	e.needs("Spoil", e.Spoil != nil)
	e.put(message("1", "stock", "a"), message("0", "stock", "tea"), message("bad", "stock", "tea"), message("2", "stock", "tea"),
		message("3", "stock", "b"), message("worse", "stock", ""), message("4", "other", "tea"), message("5", "other", ""))
	e.must(e.Spoil(e.ctx, "bad"))
	e.must(e.Spoil(e.ctx, "worse"))
	box := e.relay()
	passed := []string{"0", "1", "3", "4", "5"}
	e.eventually("the others have passed", func() bool {
		got := e.published()
		slices.Sort(got)
		st, err := e.DB.Stats(e.ctx, 0)
		e.must(err)
		return slices.Equal(got, passed) && st.Held == 3 && st.Backlog == 0
	})
	st, err := box.Stats(e.ctx)
	e.must(err)
	if !strings.Contains(st.Trouble, "set aside") {
		e.Errorf("trouble is %q, want that messages are held", st.Trouble)
	}
	held, more, err := box.Held(e.ctx, outbox.HeldFilter{IDs: []string{"bad", "worse"}}, 0)
	e.must(err)
	if len(held) != 2 || more || held[0].Err == nil || held[0].Text == "" {
		e.Fatalf("held messages %+v", held)
	}
	repaired := held[0].Message.Clone()
	repaired.Body = []byte(`"repaired"`)
	e.must(box.EditHeld(e.ctx, held[0], repaired))
	n, err := box.DiscardHeld(e.ctx, held[1:])
	e.must(err)
	e.same(n, 1, "discarded")
	e.must(e.DB.Commit(e.ctx, e.begin(), store.Writes{Messages: messages(1, "stock", "tea")}))
	e.eventually("everything has passed", func() bool {
		st, err := e.DB.Stats(e.ctx, 0)
		e.must(err)
		return st.Held == 0 && st.Backlog == 0
	})
	got := e.published()
	if i := slices.Index(got, "bad"); i < 0 || slices.Contains(got, "worse") || !slices.Equal(got[i:], []string{"bad", "2", "tea-000"}) {
		e.Errorf("the broker got %v, want bad, 2 and tea-000 at the end, and worse never", got)
	}
	e.eventually("the trouble is over", func() bool {
		st, err := box.Stats(e.ctx)
		e.must(err)
		return st.Trouble == ""
	})
}
