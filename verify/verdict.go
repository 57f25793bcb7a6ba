package verify

import (
	"cmp"
	"math"
	"slices"
	"strings"
	"time"
)

// A Verdict is what a checker has found.
type Verdict struct {
	Committed  int64 `json:"committed"`   // messages of committed transactions
	Handled    int64 `json:"handled"`     // of them, by every group
	Effects    int64 `json:"effects"`     // of all groups together
	RolledBack int64 `json:"rolled_back"` // transactions, as wished
	Failed     int64 `json:"failed"`      // transactions, not as wished
	Unknown    int64 `json:"unknown"`     // commits of which the writer could not be told what became of them

	// Kept counts messages that no handler can handle and that are among the
	// dead letters, as they should be.
	Kept int64 `json:"kept"`

	Lost       int64 `json:"lost"`
	Stuck      int64 `json:"stuck"`
	Abandoned  int64 `json:"abandoned"`
	Invented   int64 `json:"invented"`
	Double     int64 `json:"double"`
	Inversions int64 `json:"inversions"`
	Torn       int64 `json:"torn"`
	Untrue     int64 `json:"untrue"`
	// Overtaken counts inversions in groups that are promised no order.
	Overtaken int64 `json:"overtaken"`

	Groups   []Tally   `json:"groups"`
	Lag      Lag       `json:"lag"`      // on the main path
	Findings []Finding `json:"findings"` // the first of each kind, by kind
}

// A Tally is what became of the messages of one path in one of its groups.
type Tally struct {
	Group     string `json:"group"`
	Path      string `json:"path,omitempty"` // "" for the main one
	Committed int64  `json:"committed"`
	Handled   int64  `json:"handled"`
	Kept      int64  `json:"kept"`
	Lost      int64  `json:"lost"`
	Stuck     int64  `json:"stuck"`
	Abandoned int64  `json:"abandoned"`
	Lag       Lag    `json:"lag"` // without that of the slow key
}

// Lag is the time from a commit to its effects.
type Lag struct {
	P50 Millis `json:"p50_ms"`
	P99 Millis `json:"p99_ms"`
	Max Millis `json:"max_ms"`
}

// Millis is a duration in milliseconds.
type Millis float64

// Holds reports whether nothing is wrong.
func (v *Verdict) Holds() bool {
	return v.Lost+v.Stuck+v.Abandoned+v.Invented+v.Double+v.Inversions+v.Torn+v.Untrue == 0
}

// Verdict ends the comparison: what was committed, has no effect by now and is
// nowhere else is lost.
func (c *Checker) Verdict() *Verdict {
	v := &Verdict{Committed: int64(len(c.sent)), Effects: c.effects, Overtaken: c.passed,
		RolledBack: c.results[RolledBack], Failed: c.results[Failed], Unknown: c.results[Unknown]}
	missing := make([]int32, len(c.sent)) // in how many groups it has no effect
	for _, g := range c.groups {
		c.judge(g, missing)
		v.Kept += g.tally.Kept
	}
	for i, s := range c.sent {
		if s.unsure && missing[i] > 0 {
			v.Committed--
		} else if missing[i] == 0 && len(c.groups) > 0 {
			v.Handled++
		}
	}
	var main []int64
	for _, g := range c.groups {
		if g.Path == "" {
			main = append(main, g.lags...)
		}
		g.tally.Lag = lagOf(g.lags)
		v.Groups = append(v.Groups, g.tally)
	}
	v.Lost, v.Stuck, v.Abandoned = c.counts[Lost], c.counts[Stuck], c.counts[Abandoned]
	v.Invented, v.Double = c.counts[Invented], c.counts[Double]
	v.Inversions, v.Torn, v.Untrue = c.counts[Inversion], c.counts[Torn], c.counts[Untrue]
	v.Findings = append([]Finding{}, c.findings...)
	slices.SortStableFunc(v.Findings, func(a, b Finding) int { return slices.Index(Kinds, a.Kind) - slices.Index(Kinds, b.Kind) })
	v.Lag = lagOf(main)
	return v
}

// judge decides what became of each message in one group.
func (c *Checker) judge(g *groupState, missing []int32) {
	var open []int32
	for i, s := range c.sent {
		if PathOf(s.key) != g.Path {
			continue
		}
		i := int32(i)
		switch {
		case g.handled != nil && g.handled[i]:
			g.tally.Committed++
			g.tally.Handled++
			if g.kept[i] && g.Path != requeues { // there a letter may still be on its way out
				g.tally.Abandoned++
				c.find(Finding{Kind: Abandoned, Group: g.Name, ID: s.id, Tx: txOf(s.id), Key: s.key, N: s.n, Text: "handled, and among the dead letters as well"})
			}
			continue
		case s.unsure:
			missing[i]++
			continue
		}
		missing[i]++
		g.tally.Committed++
		f := Finding{Group: g.Name, ID: s.id, Tx: txOf(s.id), Key: s.key, N: s.n}
		switch where, stuck := g.stuck[i]; {
		case g.kept[i] && strings.HasSuffix(s.id, badMark):
			g.tally.Kept++
		case g.kept[i]:
			f.Kind, f.Text = Abandoned, "committed, not handled, and among the dead letters"
			g.tally.Abandoned++
			c.find(f)
		case stuck:
			f.Kind, f.Text = Stuck, "committed, not handled, and still "+where
			g.tally.Stuck++
			c.find(f)
		default:
			open = append(open, i)
		}
	}
	slices.SortStableFunc(open, func(a, b int32) int { return cmp.Compare(c.sent[b].at, c.sent[a].at) })
	for _, i := range open {
		s := c.sent[i]
		f := Finding{Kind: Lost, Group: g.Name, ID: s.id, Tx: txOf(s.id), Key: s.key, N: s.n, Text: "committed, and not handled"}
		if where := c.where(g, i); where != "" {
			f.Kind, f.Text = Stuck, "committed, not handled, and probably still "+where
			g.tally.Stuck++
		} else {
			g.tally.Lost++
		}
		c.find(f)
	}
}

func lagOf(us []int64) (l Lag) {
	if len(us) == 0 {
		return l
	}
	slices.Sort(us)
	at := func(share float64) Millis {
		d := time.Duration(us[int(share*float64(len(us)-1))]) * time.Microsecond
		return Millis(math.Round(float64(d)/float64(time.Millisecond)*10) / 10)
	}
	return Lag{at(0.5), at(0.99), at(1)}
}
