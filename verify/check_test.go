package verify

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// A past is a history that can be changed before it is checked.
type past struct {
	groups   []Group
	sent     []Sent
	outcomes []Outcome
	effects  []Effect
	kept     []string // ids of messages that group poison has among its dead letters
	undone   []string // ids that were given to messages of undone parts
	rolled   []string // and of transactions that were rolled back
}

var began = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

// right makes a history in which everything is as promised.
func right(r *rand.Rand) *past {
	p := &past{groups: []Group{{Name: "one", Ordered: true}, {Name: "many"}, {Name: poison, Path: poison, Ordered: true}}}
	keys := 2 + r.IntN(5)
	next := make([]int64, keys)
	for i := range 20 + r.IntN(60) {
		o := Outcome{Tx: fmt.Sprintf("tx-%d", i), Result: Committed}
		switch r.IntN(8) {
		case 0:
			o.Result = RolledBack
		case 1:
			o.Result = Failed
		case 2:
			o.Result = Unknown
		}
		lands := o.Result == Committed || o.Result == Unknown && r.IntN(2) == 0
		for j := range 1 + r.IntN(3) {
			id := IDOf(o.Tx, j)
			switch {
			case !lands:
				p.rolled = append(p.rolled, id)
				continue
			case r.IntN(6) == 0:
				p.undone = append(p.undone, id)
				continue
			}
			k := r.IntN(keys)
			next[k]++
			n := Note{Key: fmt.Sprintf("key-%d", k), N: next[k], Text: fmt.Sprint(r.Uint64())}
			p.sent = append(p.sent, Sent{ID: id, Tx: o.Tx, Key: n.Key, N: n.N, Sum: n.Check(), At: began.Add(time.Duration(i) * time.Millisecond)})
			o.Messages++
		}
		if r.IntN(10) > 0 { // the writer may be killed before it writes it down
			p.outcomes = append(p.outcomes, o)
		}
	}
	for i := range int64(4) {
		n := Note{Key: keyOf(poison, 1), N: i + 1, Text: fmt.Sprint(r.Uint64())}
		id := IDOf("poison", int(i))
		if i == 2 {
			id += badMark
			p.kept = append(p.kept, id)
		}
		p.sent = append(p.sent, Sent{ID: id, Tx: "poison", Key: n.Key, N: n.N, Sum: n.Check(), At: began})
	}
	for _, g := range p.groups {
		for _, s := range p.sent {
			if PathOf(s.Key) != g.Path || slices.Contains(p.kept, s.ID) {
				continue
			}
			p.effects = append(p.effects, Effect{Group: g.Name, Key: s.Key, Pos: s.N, ID: s.ID, N: s.N, Sum: s.Sum, At: s.At.Add(time.Second)})
		}
	}
	return p
}

func (p *past) check(t *testing.T) *Verdict {
	t.Helper()
	c := NewChecker(p.groups)
	for _, s := range p.sent {
		if err := c.Sent(s); err != nil {
			t.Fatal(err)
		}
	}
	for _, o := range p.outcomes {
		c.Outcome(o)
	}
	for _, e := range p.effects {
		if err := c.Effect(e); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range p.kept {
		c.Kept(poison, id)
	}
	return c.Verdict()
}

// handled is how many messages of a right history are.
func (p *past) handled() int64 { return int64(len(p.sent) - len(p.kept)) }

// neighbours finds two effects of an ordered group that follow each other in
// their key.
func (p *past) neighbours(r *rand.Rand) (i, j int, ok bool) {
	for _, i := range r.Perm(len(p.effects)) {
		for j := i + 1; j < len(p.effects); j++ {
			if a, b := p.effects[i], p.effects[j]; a.Group == "one" && b.Group == "one" && a.Key == b.Key {
				return i, j, true
			}
		}
	}
	return 0, 0, false
}

// plants are faults, each of which plants one and says what is to be found.
var plants = map[string]func(r *rand.Rand, p *past) (Finding, bool){
	"lost of those that are to be kept": func(r *rand.Rand, p *past) (Finding, bool) {
		id := p.kept[0]
		p.kept = nil
		return Finding{Kind: Lost, Group: poison, ID: id, Key: keyOf(poison, 1), N: 3}, true
	},
	"abandoned": func(r *rand.Rand, p *past) (Finding, bool) {
		i := slices.IndexFunc(p.effects, func(e Effect) bool { return e.Group == poison })
		e := p.effects[i]
		p.effects = slices.Delete(p.effects, i, i+1)
		p.kept = append(p.kept, e.ID)
		return Finding{Kind: Abandoned, Group: poison, ID: e.ID, Key: e.Key, N: e.N}, true
	},
	"abandoned, though it was handled": func(r *rand.Rand, p *past) (Finding, bool) {
		i := slices.IndexFunc(p.effects, func(e Effect) bool { return e.Group == poison })
		e := p.effects[i]
		p.kept = append(p.kept, e.ID)
		return Finding{Kind: Abandoned, Group: poison, ID: e.ID, Key: e.Key, N: e.N}, true
	},
	"invented, and among the dead letters": func(r *rand.Rand, p *past) (Finding, bool) {
		if len(p.rolled) == 0 {
			return Finding{}, false
		}
		id := p.rolled[r.IntN(len(p.rolled))]
		p.kept = append(p.kept, id)
		return Finding{Kind: Invented, Group: poison, ID: id}, true
	},
	"handled by a group that it is not for": func(r *rand.Rand, p *past) (Finding, bool) {
		e := p.effects[r.IntN(len(p.effects))]
		e.Group = poison
		if PathOf(e.Key) == poison {
			e.Group = "one"
		}
		p.effects = append(p.effects, e)
		return Finding{Kind: Invented, Group: e.Group, ID: e.ID, Key: e.Key, N: e.N}, true
	},
	"lost": func(r *rand.Rand, p *past) (Finding, bool) {
		i := r.IntN(len(p.effects))
		e := p.effects[i]
		p.effects = slices.Delete(p.effects, i, i+1)
		return Finding{Kind: Lost, Group: e.Group, ID: e.ID, Key: e.Key, N: e.N}, true
	},
	"invented by a roll-back": func(r *rand.Rand, p *past) (Finding, bool) { return p.invent(r, p.rolled) },
	"invented by a part":      func(r *rand.Rand, p *past) (Finding, bool) { return p.invent(r, p.undone) },
	"invented by nobody":      func(r *rand.Rand, p *past) (Finding, bool) { return p.invent(r, []string{"foreign"}) },
	"double": func(r *rand.Rand, p *past) (Finding, bool) {
		e := p.effects[r.IntN(len(p.effects))]
		p.effects = append(p.effects, e)
		return Finding{Kind: Double, Group: e.Group, ID: e.ID, Key: e.Key, N: e.N}, true
	},
	"inversion": func(r *rand.Rand, p *past) (Finding, bool) {
		i, j, ok := p.neighbours(r)
		if !ok {
			return Finding{}, false
		}
		early, late := &p.effects[i], &p.effects[j]
		*early, *late = *late, *early
		early.Pos, late.Pos = late.Pos, early.Pos
		return Finding{Kind: Inversion, Group: "one", ID: late.ID, Key: late.Key, N: late.N}, true
	},
	"torn text": func(r *rand.Rand, p *past) (Finding, bool) {
		e := &p.effects[r.IntN(len(p.effects))]
		e.Sum ^= 1 << r.IntN(32)
		return Finding{Kind: Torn, Group: e.Group, ID: e.ID, Key: e.Key, N: e.N}, true
	},
	"torn number": func(r *rand.Rand, p *past) (Finding, bool) {
		e := &p.effects[r.IntN(len(p.effects))]
		e.N += 1000
		return Finding{Kind: Torn, Group: e.Group, ID: e.ID, Key: e.Key, N: e.N}, true
	},
	"told that it committed": func(r *rand.Rand, p *past) (Finding, bool) {
		return p.retell(r, func(o *Outcome) bool {
			ok := o.Result == RolledBack || o.Result == Failed
			o.Result, o.Messages = Committed, 1
			return ok
		})
	},
	"told that it was rolled back": func(r *rand.Rand, p *past) (Finding, bool) {
		return p.retell(r, func(o *Outcome) bool {
			ok := o.Result == Committed && o.Messages > 0
			o.Result = Failed
			return ok
		})
	},
}

func (p *past) invent(r *rand.Rand, ids []string) (Finding, bool) {
	if len(ids) == 0 {
		return Finding{}, false
	}
	e := Effect{Group: p.groups[r.IntN(2)].Name, Key: "key-0", Pos: 1 << 40, N: 1 << 40, ID: ids[r.IntN(len(ids))], At: began}
	p.effects = append(p.effects, e)
	return Finding{Kind: Invented, Group: e.Group, ID: e.ID, Key: e.Key, N: e.N}, true
}

func (p *past) retell(r *rand.Rand, change func(*Outcome) bool) (Finding, bool) {
	for _, i := range r.Perm(len(p.outcomes)) {
		if o := p.outcomes[i]; change(&o) {
			p.outcomes[i] = o
			return Finding{Kind: Untrue, Tx: o.Tx}, true
		}
	}
	return Finding{}, false
}

func TestChecker_has_nothing_to_say_about_a_right_history(t *testing.T) {
	for seed := range uint64(300) {
		p := right(rand.New(rand.NewPCG(seed, 1)))
		v := p.check(t)
		if !v.Holds() || len(v.Findings) > 0 || v.Committed != int64(len(p.sent)) || v.Handled != p.handled() || v.Kept != 1 ||
			v.Effects != int64(len(p.effects)) || v.Groups[2].Kept != 1 || v.Groups[2].Handled != 3 {
			t.Fatalf("seed %d: %+v", seed, v)
		}
		if v.Lag != (Lag{1000, 1000, 1000}) {
			t.Fatalf("seed %d: lag %v, want a second", seed, v.Lag)
		}
	}
}

func TestChecker_names_exactly_the_fault_that_was_planted(t *testing.T) {
	for name, plant := range plants {
		t.Run(name, func(t *testing.T) {
			planted := 0
			for seed := range uint64(300) {
				r := rand.New(rand.NewPCG(seed, 2))
				p := right(r)
				want, ok := plant(r, p)
				if !ok {
					continue
				}
				planted++
				v := p.check(t)
				if v.Holds() || len(v.Findings) != 1 {
					t.Fatalf("seed %d: found %+v, want %+v", seed, v.Findings, want)
				}
				got := v.Findings[0]
				if want.Kind != Untrue {
					got.Tx = ""
				}
				if got.Text == "" {
					t.Errorf("seed %d: no words for %+v", seed, got)
				}
				got.Text = ""
				if got != want {
					t.Fatalf("seed %d: found %+v, want %+v", seed, got, want)
				}
			}
			if planted < 100 {
				t.Errorf("planted %d times: the histories do not lend themselves to it", planted)
			}
		})
	}
}

func TestChecker_counts_disorder_that_nobody_promised_away_apart(t *testing.T) {
	p := right(rand.New(rand.NewPCG(1, 3)))
	i, j, _ := p.neighbours(rand.New(rand.NewPCG(1, 3)))
	p.effects[i], p.effects[j] = p.effects[j], p.effects[i]
	p.groups[0].Ordered = false
	if v := p.check(t); !v.Holds() || v.Overtaken != 1 {
		t.Errorf("%+v, want 1 overtaken and nothing wrong", v)
	}
}

func TestChecker_counts_all_and_names_some(t *testing.T) {
	p := right(rand.New(rand.NewPCG(1, 4)))
	for len(p.sent) < 2*maxFindings {
		s := p.sent[0]
		s.ID = IDOf("more", len(p.sent))
		p.sent = append(p.sent, s)
	}
	p.effects, p.outcomes, p.kept = nil, nil, nil
	v := p.check(t)
	if v.Lost != int64(2*(len(p.sent)-4)+4) || len(v.Findings) != maxFindings || v.Handled != 0 {
		t.Errorf("lost %d of %d, named %d", v.Lost, len(p.sent), len(v.Findings))
	}
}

func TestChecker_tells_what_is_stuck_from_what_is_lost(t *testing.T) {
	c := NewChecker([]Group{{Name: "one"}, {Name: "two"}, {Name: slow, Path: slow}})
	for i, key := range []string{"a", "a", "a", keyOf(slow, 1), keyOf(slow, 1)} {
		if err := c.Sent(Sent{ID: IDOf("tx", i), Tx: "tx", Key: key, N: int64(i + 1), At: began.Add(time.Duration(i) * time.Second)}); err != nil {
			t.Fatal(err)
		}
	}
	c.Still("", IDOf("tx", 0), "held in the outbox")
	c.Still(slow, IDOf("tx", 3), "with the broker")
	c.Waiting([]string{"one"}, 1, "with the broker")
	c.Waiting([]string{"two"}, 7, "with the broker")
	v := c.Verdict()
	if v.Stuck != 2+1+1+2 || v.Lost != 1+1 || v.Holds() {
		t.Errorf("stuck %d, lost %d, findings %+v", v.Stuck, v.Lost, v.Findings)
	}
	if i := slices.IndexFunc(v.Findings, func(f Finding) bool { return f.Kind == Lost && f.Group == "one" }); i < 0 || v.Findings[i].ID != IDOf("tx", 1) {
		t.Errorf("%+v, want the older one of group one to be lost and the later one to wait", v.Findings)
	}
	if g := v.Groups[2]; g.Stuck != 1 || g.Lost != 1 || g.Committed != 2 {
		t.Errorf("%+v", g)
	}
}

func TestChecker_expects_nothing_of_what_nobody_was_sure_of(t *testing.T) {
	c := NewChecker([]Group{{Name: foreign, Path: foreign, Repeats: true}})
	for i := range 3 {
		n := Note{Key: keyOf(foreign, 1), N: int64(i)}
		if err := c.Sent(Sent{ID: foreignID(n), Key: n.Key, N: n.N, Unsure: i > 0}); err != nil {
			t.Fatal(err)
		}
	}
	for _, i := range []int64{0, 1, 1} {
		if err := c.Effect(Effect{Group: foreign, Key: keyOf(foreign, 1), N: i, ID: foreignID(Note{Key: keyOf(foreign, 1), N: i})}); err != nil {
			t.Fatal(err)
		}
	}
	if v := c.Verdict(); !v.Holds() || v.Committed != 2 || v.Handled != 2 || v.Effects != 3 {
		t.Errorf("%+v, want the two that arrived, and no fault", v)
	}
}

func TestChecker_refuses_what_no_run_writes(t *testing.T) {
	c := NewChecker([]Group{{Name: "one", Ordered: true}})
	if err := c.Sent(Sent{ID: "a"}); err != nil {
		t.Fatal(err)
	}
	if err := c.Sent(Sent{ID: "a"}); err == nil {
		t.Error("one message committed twice is no error")
	}
	if err := c.Effect(Effect{Group: "other", ID: "a"}); err == nil {
		t.Error("an effect of an unknown group is no error")
	}
}

func TestNote_sum_depends_on_every_part(t *testing.T) {
	n := Note{Key: "a", N: 12, Text: "x"}
	seen := map[uint32]Note{}
	for _, m := range []Note{n, {Key: "b", N: 12, Text: "x"}, {Key: "a", N: 13, Text: "x"}, {Key: "a", N: 12, Text: "y"}, {Key: "a1", N: 2, Text: "x"}, {Key: "a", N: 1, Text: "2x"}} {
		if o, ok := seen[m.Check()]; ok {
			t.Errorf("%+v and %+v have one sum", m, o)
		}
		seen[m.Check()] = m
	}
}
