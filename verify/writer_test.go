package verify

import (
	"context"
	"math/rand/v2"
	"testing"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

func TestTransaction_does_not_take_a_rollback_that_was_answered_with_nothing_for_one(t *testing.T) {
	path := t.TempDir() + "/diary"
	told, err := openDiary(path)
	if err != nil {
		t.Fatal(err)
	}
	w := &writer{process: &process{told: told}, do: func(ctx context.Context, f func(context.Context, work) error) error {
		_ = f(ctx, work{})
		return nil // whatever f says
	}}
	one := &transaction{w: w, id: "a", end: errPlanned}
	if got := one.run(t.Context(), func(context.Context, work) error { return one.end }); got != Failed {
		t.Errorf("%s, want that it was not as it should be", got)
	}
	if err := told.close(); err != nil {
		t.Error(err)
	}
}

func TestTransaction_reports_an_undone_part_that_was_answered_with_nothing(t *testing.T) {
	j := job{Run: "r1"}
	w := &writer{events: map[string][]dovetail.Event[Note]{"": {j.event()}}}
	in := work{tables: tables{run: accepting{}}, out: &sends{}, part: func(ctx context.Context, f func(context.Context, work) error) error {
		_ = f(ctx, work{tables: tables{run: accepting{}}, out: &sends{}})
		return nil
	}}
	undone := 0
	for seed := range uint64(20) {
		one := &transaction{w: w, r: rand.New(rand.NewPCG(seed, 1)), id: "a"}
		if err := one.part(t.Context(), in, "key"); err != nil {
			undone++
		}
	}
	if undone == 0 || undone == 20 {
		t.Errorf("%d of 20 parts are in error, want those that were to be undone", undone)
	}
}

func TestWriter_goes_by_every_path_in_a_short_run(t *testing.T) {
	w := &writer{process: &process{job: job{Keys: 10, Paths: []string{versions, outage, requeues, poison, slow}}}}
	seen := map[string]bool{}
	r := rand.New(rand.NewPCG(1, 1))
	for range 5 {
		name := ""
		for name == "" { // one in four
			name = PathOf(w.keys(r)[0])
		}
		seen[name] = true
	}
	if len(seen) != 5 {
		t.Errorf("five transactions on paths went by %v", seen)
	}
}

// sends takes messages and forgets them.
type sends struct{}

func (*sends) Name() string { return "verify" }

func (*sends) Send(context.Context, []*driver.Message) error { return nil }
