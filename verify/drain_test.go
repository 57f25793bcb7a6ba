package verify

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// counted answers the questions of tables with numbers of one group.
type counted struct {
	Store
	committed, effects, handled int64
}

func (c *counted) tables() tables { return tables{run: c} }

func (c *counted) Exec(context.Context, string, ...any) error { return nil }

func (c *counted) Query(_ context.Context, query string, _ []any, row func(func(...any) error) error) error {
	name, n := "all", c.effects
	switch {
	case strings.Contains(query, "FROM number"):
		name, n = "", c.committed
	case strings.Contains(query, "FROM effect"):
		n = c.handled
	}
	return row(func(dest ...any) error {
		*dest[0].(*string), *dest[1].(*int64) = name, n
		return nil
	})
}

// drained is whether a run finds that it is complete, and how long it took.
func drained(t *testing.T, c *counted) (complete bool, took time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		r := &run{groups: []Group{{Name: "all"}}, books: c, shelf: c, fleet: &fleet{}, faults: &faults{nodes: newNodes(&Options{})}}
		r.Patience, r.Progress = 8*time.Second, func(Progress) {}
		var err error
		if complete, err = r.drain(t.Context()); err != nil {
			t.Error(err)
		}
		took = r.drained
	})
	return complete, took
}

func TestRun_waits_for_a_message_although_another_was_handled_twice(t *testing.T) {
	if complete, took := drained(t, &counted{committed: 10, effects: 10, handled: 9}); complete || took < 8*time.Second {
		t.Errorf("complete: %v, after %v", complete, took)
	}
	if complete, took := drained(t, &counted{committed: 10, effects: 11, handled: 10}); !complete || took > 2*time.Second {
		t.Errorf("complete: %v, after %v, where one was handled twice and none is missing", complete, took)
	}
}
