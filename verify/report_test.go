package verify

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// told is a store that tells what was committed, and what was handled.
type told struct {
	Store
	sent    []Sent
	effects []Effect
	waiting int64
	hangs   bool
}

func (s *told) tables() tables { return tables{run: s} }

func (s *told) unpublished(context.Context) ([]string, int64, error) { return nil, s.waiting, nil }

func (s *told) Exec(context.Context, string, ...any) error { return nil }

func (s *told) Query(ctx context.Context, query string, _ []any, row func(func(...any) error) error) error {
	if s.hangs {
		<-ctx.Done()
		return ctx.Err()
	}
	fill := func(values ...any) error {
		return row(func(dest ...any) error {
			for i, v := range values {
				switch d := dest[i].(type) {
				case *string:
					*d = v.(string)
				case *int64:
					*d = v.(int64)
				}
			}
			return nil
		})
	}
	if strings.Contains(query, "FROM sent") {
		for _, e := range s.sent {
			if err := fill(e.Key, e.N, e.ID, e.Tx, int64(e.Sum), e.At.UnixMicro()); err != nil {
				return err
			}
		}
		return nil
	}
	for _, e := range s.effects {
		if err := fill(e.Group, e.Key, e.Pos, e.ID, e.N, int64(e.Sum), e.At.UnixMicro(), e.Who); err != nil {
			return err
		}
	}
	return nil
}

// committed makes n messages of a key, and an effect of each of the first handled.
func committed(n, handled int) *told {
	s := &told{}
	for i := range n {
		note := Note{Key: "key", N: int64(i + 1)}
		one := Sent{ID: IDOf("tx", i), Tx: "tx", Key: note.Key, N: note.N, Sum: note.Check(), At: began}
		s.sent = append(s.sent, one)
		if i < handled {
			s.effects = append(s.effects, Effect{Group: "all", Key: one.Key, Pos: one.N, ID: one.ID, N: one.N, Sum: one.Sum, At: began})
		}
	}
	return s
}

// judged is what a run reports that has come to its end, and how that begins.
func judged(t *testing.T, s *told, n *nodes) (rep *Report, first string) {
	t.Helper()
	r := &run{id: "r1", caps: driver.Capabilities{Order: driver.OrderOwner, Name: "some transport"}, groups: []Group{{Name: "all", Ordered: true}},
		books: s, shelf: s, fleet: &fleet{}, faults: &faults{nodes: n}, wrote: 10 * time.Second}
	r.Consumers, r.Seconds, r.Broker, r.Nodes = 1, 10, "nobody:", n.names
	rep, err := r.report(t.Context(), false, false)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := rep.Print(&text); err != nil {
		t.Fatal(err)
	}
	first, _, _ = strings.Cut(text.String(), "   ")
	return rep, first
}

// brokenNodes were broken until a command failed.
func brokenNodes(t *testing.T, refuse string) *nodes {
	f, n := newFakeNodes("a", "b", "c")
	n.counts = []NodeCounts{{Fault: "kill"}}
	f.refuse = func(do, _ string) error {
		if do == refuse {
			return errors.New("no such container")
		}
		return nil
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		n.run(ctx, seeded(1))
	})
	return n
}

func TestReport_proves_nothing_while_a_node_is_away(t *testing.T) {
	for _, c := range []struct {
		name, refuse string
		s            *told
		want         string
	}{
		{"nothing is missing, and no node", "", committed(3, 3), "HOLDS"},
		{"some are missing, and no node", "", committed(3, 1), "BROKEN"},
		{"some are missing, and a node that did not come back", "restart", committed(3, 1), "NOT PROVED: a node could not be broken or brought back"},
		{"nothing is missing but a node", "restart", committed(3, 3), "NOT PROVED: a node could not be broken or brought back"},
		{"some are missing, and every node is there", "kill", committed(3, 1), "BROKEN"},
		{"nothing is missing, and no node was broken", "kill", committed(3, 3), "NOT PROVED: a node could not be broken or brought back"},
		{"nothing was committed", "", committed(0, 0), "NOTHING PROVED: no transaction committed"},
		{"nothing was committed, and something handled", "", &told{effects: committed(1, 1).effects}, "BROKEN"},
		{"something was invented while a node is away", "restart", &told{sent: committed(1, 0).sent, effects: []Effect{{Group: "all", Key: "key", ID: "x/1", At: began}}}, "BROKEN"},
	} {
		if rep, got := judged(t, c.s, brokenNodes(t, c.refuse)); got != c.want || rep.Holds != (got == "HOLDS") {
			t.Errorf("%s: %q, holds %v, want %q", c.name, got, rep.Holds, c.want)
		}
	}
}

func TestReport_names_the_nodes_that_were_broken(t *testing.T) {
	_, n := newFakeNodes("a", "b", "c")
	n.counts = []NodeCounts{{Fault: "kill"}}
	broke := func(r *Report) string {
		i := slices.IndexFunc(r.Checked, func(s string) bool { return strings.Contains(s, "broken") })
		if i < 0 {
			return ""
		}
		return r.Checked[i]
	}
	rep, _ := judged(t, committed(1, 1), n)
	if got := broke(rep); got != "" {
		t.Errorf("checked %q, where no node was broken", got)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 28*time.Second) // the second fault is cut short
		defer cancel()
		n.run(ctx, seeded(1))
	})
	rep, _ = judged(t, committed(1, 1), n)
	met := slices.Sorted(slices.Values(n.turn[1:])) // one was not its turn
	if got, want := broke(rep), "all of it while nodes "+strings.Join(met, ", ")+" were broken"; got != want || rep.Nodes[0].Times != 1 {
		t.Errorf("checked %q, want %q; %+v, want one fault that was not cut short", got, want, rep.Nodes)
	}
	if want := "node " + n.turn[0] + ": the run ended before it was broken"; !slices.Contains(rep.Unchecked, want) {
		t.Errorf("not checked %q, want %q", rep.Unchecked, want)
	}
}

func TestReport_says_when_everything_from_before_the_return_was_handled(t *testing.T) {
	back := began.Add(time.Minute)
	at := func(seconds int) time.Time { return back.Add(time.Duration(seconds) * time.Second) }
	for _, c := range []struct {
		sent, handled []int // seconds after the return
		want          float64
	}{
		{[]int{-20, -10, 5, 6}, []int{-19, 9, 6, 7}, 9}, // those from after the return stand for none
		{[]int{-20, 5}, []int{-19, 30}, 0},
		{[]int{-20, -10, 5, 6}, []int{-19, 0, 7, 8}, -1}, // the second has no effect
	} {
		s := &told{}
		for i, sent := range c.sent {
			one := Sent{ID: IDOf("tx", i), Tx: "tx", Key: keyOf(outage, 1), N: int64(i + 1), At: at(sent)}
			s.sent = append(s.sent, one)
			if c.handled[i] != 0 {
				for _, more := range []int{0, 50} { // once too often
					s.effects = append(s.effects, Effect{Group: outage, Key: one.Key, ID: one.ID, N: one.N, At: at(c.handled[i] + more)})
				}
			}
		}
		r := &run{groups: []Group{{Name: "all"}, {Name: outage, Path: outage}}, walked: []*path{pathOf(outage)}, caps: driver.Capabilities{Order: driver.OrderOwner},
			books: s, shelf: s, fleet: &fleet{}, faults: &faults{nodes: newNodes(&Options{})}, gone: &episode{was: true, to: back, took: time.Minute}}
		r.Consumers, r.Broker = 1, "nobody:"
		rep, err := r.report(t.Context(), true, false)
		if err != nil {
			t.Fatal(err)
		}
		if rep.Outage.Recovered != c.want {
			t.Errorf("%+v: recovered after %v s, want %v", c, rep.Outage.Recovered, c.want)
		}
	}
}

func TestReport_does_not_say_that_a_path_was_checked_on_which_nothing_happened(t *testing.T) {
	r := &run{groups: []Group{{Name: "all"}}, walked: []*path{pathOf(outage), pathOf(requeues), pathOf(poison), pathOf(slow), pathOf(broadcast)},
		caps: driver.Capabilities{Order: driver.OrderOwner}, fleet: &fleet{}, faults: &faults{nodes: newNodes(&Options{})}}
	r.Consumers = 1
	rep := &Report{}
	for _, p := range r.walked {
		r.groups = append(r.groups, Group{Name: p.name, Path: p.name})
	}
	for _, g := range r.groups {
		rep.Groups = append(rep.Groups, Tally{Group: g.Name, Path: g.Path, Committed: 5})
	}
	rep.Groups[4].Committed = 0 // of slow
	r.words(rep)
	checked, not := strings.Join(rep.Checked, "\n"), strings.Join(rep.Unchecked, "\n")
	for _, name := range []string{outage, requeues, poison, slow} {
		if strings.Contains(checked, "path "+name) || !strings.Contains(not, "path "+name+" (") {
			t.Errorf("path %s is among the checked: %s; not checked: %s", name, checked, not)
		}
	}
	if !strings.Contains(checked, "path "+broadcast) {
		t.Errorf("path broadcast is not among the checked: %s", checked)
	}
}

func TestReport_gives_up_on_a_database_that_does_not_answer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := committed(1, 1)
		s.hangs = true
		r := &run{groups: []Group{{Name: "all"}}, books: s, shelf: s}
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour) // so that the test ends
		defer cancel()
		if _, err := r.report(ctx, false, false); err == nil || ctx.Err() != nil {
			t.Errorf("%v after an hour, want an error before", err)
		}
	})
}
