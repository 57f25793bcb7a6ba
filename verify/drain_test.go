package verify

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail/driver/backoff"
)

// counted answers the questions of tables with numbers by path or group. A
// question about plain messages leaves one out if it names it.
type counted struct {
	Store
	committed, effects, handled map[string]int64
	plain                       []string      // ids of plain messages with an effect
	slow                        time.Duration // a count of messages takes
}

func (c *counted) tables() tables { return tables{run: c} }

func (c *counted) Exec(context.Context, string, ...any) error { return nil }

func (c *counted) Query(ctx context.Context, query string, args []any, row func(scan func(...any) error) error) error {
	counts := c.effects
	switch {
	case strings.Contains(query, "count(DISTINCT id)"):
		n := int64(0)
		for _, id := range c.plain {
			if len(args) < 2 || args[1] != id {
				n++
			}
		}
		return row(func(dest ...any) error { *dest[0].(*int64) = n; return nil })
	case strings.Contains(query, "FROM number"):
		counts = c.committed
	case strings.Contains(query, "FROM effect"):
		if c.slow > 0 && !backoff.Sleep(ctx, c.slow) {
			return ctx.Err()
		}
		counts = c.handled
	}
	for name, n := range counts {
		if err := row(func(dest ...any) error {
			*dest[0].(*string), *dest[1].(*int64) = name, n
			return nil
		}); err != nil {
			return err
		}
	}
	return nil
}

func main10(effects, handled int64) *counted {
	return &counted{committed: map[string]int64{"": 10}, effects: map[string]int64{"all": effects}, handled: map[string]int64{"all": handled}}
}

// drained is whether a run finds that it is complete, and how long it took.
func drained(t *testing.T, c *counted, edit func(r *run)) (complete bool, took time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		r := &run{groups: []Group{{Name: "all"}}, books: c, shelf: c, fleet: &fleet{}, faults: &faults{nodes: newNodes(&Options{})}}
		r.Patience, r.Progress = 8*time.Second, func(Progress) {}
		if edit != nil {
			edit(r)
		}
		var err error
		if complete, err = r.drain(t.Context()); err != nil {
			t.Error(err)
		}
		took = r.drained
	})
	return complete, took
}

func TestRun_waits_for_a_message_although_another_was_handled_twice(t *testing.T) {
	if complete, took := drained(t, main10(10, 9), nil); complete || took < 8*time.Second {
		t.Errorf("complete: %v, after %v", complete, took)
	}
	if complete, took := drained(t, main10(11, 10), nil); !complete || took > 2*time.Second {
		t.Errorf("complete: %v, after %v, where one was handled twice and none is missing", complete, took)
	}
}

func TestRun_waits_for_a_plain_message_although_one_that_nobody_was_sure_of_was_handled(t *testing.T) {
	for _, last := range []string{"c", "b"} {
		c := main10(10, 10)
		c.plain = []string{"a", last}
		complete, _ := drained(t, c, func(r *run) {
			r.groups = append(r.groups, Group{Name: foreign, Path: foreign, Repeats: true})
			r.plain = &stranger{sent: []Sent{{ID: "a"}, {ID: "b"}, {ID: "c", Unsure: true}}, sure: 2}
		})
		if complete != (last == "b") {
			t.Errorf("complete: %v, where a and %s of a, b and perhaps c were handled", complete, last)
		}
	}
}

func TestRun_waits_for_a_message_although_another_is_handled_and_among_the_dead_letters(t *testing.T) {
	c := main10(10, 10)
	c.committed[poison], c.effects[poison], c.handled[poison] = 3, 1, 1
	for _, second := range []string{"a", "c" + badMark} { // a was handled
		complete, _ := drained(t, c, func(r *run) {
			r.groups = append(r.groups, Group{Name: poison, Path: poison})
			r.letters = &letters{kept: map[string]map[string]bool{poison: {"b" + badMark: true, second: true}}}
		})
		if complete != (second != "a") {
			t.Errorf("complete: %v, where a was handled and b and %s are among the dead letters", complete, second)
		}
	}
}

func TestRun_says_which_command_failed_where_a_process_does_not_come_up(t *testing.T) {
	c, n := main10(1, 1), newNodes(&Options{})
	n.fail(errors.New("restart a: no such container"))
	r := &run{groups: []Group{{Name: "all"}}, books: c, shelf: c, fleet: &fleet{failed: make(chan struct{})}, faults: &faults{nodes: n}}
	r.Patience, r.Progress = time.Minute, func(Progress) {}
	r.fleet.fail(errors.New("one does not come up"))
	if _, err := r.drain(t.Context()); err == nil || !strings.Contains(err.Error(), "one does not come up") || !strings.Contains(err.Error(), "restart a: no such container") {
		t.Errorf("%v, want both", err)
	}
}

func TestRun_shows_how_long_nothing_has_happened(t *testing.T) {
	var seen []Progress
	drained(t, main10(10, 9), func(r *run) { r.Progress = func(p Progress) { seen = append(seen, p) } })
	if len(seen) < 20 {
		t.Fatalf("shown %d times", len(seen))
	}
	if p := seen[len(seen)-1]; p.Phase != "draining" || p.Of != 8*time.Second || p.Done < 7*time.Second || p.Committed != 10 || p.Handled != 9 {
		t.Errorf("%+v, want that nothing has happened for nearly 8 of 8 s", p)
	}
}

func TestRun_counts_the_time_without_effects_although_it_counts_messages_in_between(t *testing.T) {
	c := main10(10, 9) // one was handled twice, and one is missing
	var still time.Duration
	drained(t, c, func(r *run) {
		r.Progress = func(Progress) { still = r.still.longest }
	})
	if still < 7*time.Second {
		t.Errorf("nothing was handled for %v, want nearly 8 s", still)
	}
}

func TestRun_has_time_to_count_many_messages(t *testing.T) {
	c := main10(10, 10)
	c.slow = 40 * time.Second
	if complete, _ := drained(t, c, nil); !complete {
		t.Error("incomplete, where a count of all takes longer than the patience")
	}
	if c.handled["all"] = 9; true {
		if complete, took := drained(t, c, nil); complete || took < 80*time.Second {
			t.Errorf("complete: %v, after %v: want a second count before the run gives up", complete, took)
		}
	}
}
