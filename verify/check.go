package verify

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

// A Group is one whose effects are compared with what was committed.
type Group struct {
	Name    string
	Path    string // whose messages it handles, see PathOf; "" for the main one
	Ordered bool   // the order within a key is promised to it
	Repeats bool   // its messages have no ids, so that a second effect is none too many
}

// maxFindings is how many findings of each kind are named; all are counted.
const maxFindings = 50

// A Checker compares what was committed with what was handled. It is given
// everything that was sent, then all outcomes, then all effects, then what else is
// known of messages without an effect, and takes time and memory in proportion to
// them. It is used by one goroutine.
type Checker struct {
	groups  []*groupState
	byName  map[string]*groupState
	sent    []sentState
	byID    map[string]int32 // index of sent
	perTx   map[string]int32 // messages that were committed
	ended   map[string]Result
	results map[Result]int64

	waiting  []*waiting
	counts   map[Kind]int64
	findings []Finding
	effects  int64
	passed   int64 // inversions that nobody promised not to happen
}

type sentState struct {
	id, key string
	n       int64
	sum     uint32
	at      int64 // µs
	unsure  bool
}

type groupState struct {
	Group
	handled []bool            // by index of sent
	kept    map[int32]bool    // index of sent
	stuck   map[int32]string  // index of sent → where
	last    map[string]Effect // that of the highest number of each key so far
	lags    []int64           // µs from commit to effect
	tally   Tally
}

// waiting are messages that are known by their number alone. Each waits for all of
// the groups that handle its path.
type waiting struct {
	groups []string
	n      int64 // not found yet
	where  string
	taken  map[int32]bool // by index of sent: those that were found
}

// NewChecker returns one for these groups.
func NewChecker(groups []Group) *Checker {
	c := &Checker{
		byName: map[string]*groupState{}, byID: map[string]int32{}, perTx: map[string]int32{},
		ended: map[string]Result{}, results: map[Result]int64{}, counts: map[Kind]int64{},
	}
	for _, g := range groups {
		s := &groupState{Group: g, kept: map[int32]bool{}, stuck: map[int32]string{}, last: map[string]Effect{}}
		s.tally.Group, s.tally.Path = g.Name, g.Path
		c.groups = append(c.groups, s)
		c.byName[g.Name] = s
	}
	return c
}

// Sent takes an event that was committed.
func (c *Checker) Sent(s Sent) error {
	if len(c.sent) == math.MaxInt32 {
		return fmt.Errorf("check: more than %d messages", math.MaxInt32)
	}
	if _, ok := c.byID[s.ID]; ok {
		return fmt.Errorf("check: message %s was committed twice: the history is not what the writers write", s.ID)
	}
	c.byID[s.ID] = int32(len(c.sent))
	c.sent = append(c.sent, sentState{s.ID, s.Key, s.N, s.Sum, s.At.UnixMicro(), s.Unsure})
	c.perTx[s.Tx]++
	return nil
}

// Outcome takes what a writer was told.
func (c *Checker) Outcome(o Outcome) {
	c.results[o.Result]++
	there := int(c.perTx[o.Tx])
	switch {
	case o.Result == Committed && there != o.Messages:
		c.find(Finding{Kind: Untrue, Tx: o.Tx, Text: fmt.Sprintf("the writer was told that it committed with %d messages, and the database has %d", o.Messages, there)})
	case (o.Result == RolledBack || o.Result == Failed) && there > 0:
		c.find(Finding{Kind: Untrue, Tx: o.Tx, Text: fmt.Sprintf("the writer was told that it was rolled back, and the database has %d messages", there)})
	}
	c.ended[o.Tx] = o.Result
}

// Effect takes an effect. Those of one group and key come in the order of their
// positions.
func (c *Checker) Effect(e Effect) error {
	g := c.byName[e.Group]
	if g == nil {
		return fmt.Errorf("check: effect of group %q, which is none of those that were started", e.Group)
	}
	c.effects++
	f := Finding{Group: e.Group, ID: e.ID, Key: e.Key, N: e.N}
	i, ok := c.byID[e.ID]
	if !ok {
		f.Kind, f.Tx, f.Text = Invented, txOf(e.ID), "handled, and "+c.origin(e.ID)
		c.find(f)
		return nil
	}
	s := &c.sent[i]
	if PathOf(s.key) != g.Path {
		f.Kind, f.Text = Invented, "handled by a group that it is not for"
		c.find(f)
		return nil
	}
	if g.handled == nil {
		g.handled = make([]bool, len(c.sent))
	}
	if g.handled[i] && g.Repeats {
		return nil
	}
	if g.handled[i] {
		f.Kind, f.Text = Double, "handled again by "+e.Who+", with a second effect"
		c.find(f)
		return nil
	}
	g.handled[i] = true
	if s.key != slowKey { // which is as late as its handler is slow
		g.lags = append(g.lags, e.At.UnixMicro()-s.at)
	}
	if e.Key != s.key || e.N != s.n || e.Sum != s.sum {
		f.Kind = Torn
		f.Text = fmt.Sprintf("arrived as %s %d with sum %08x, and was published as %s %d with sum %08x", e.Key, e.N, e.Sum, s.key, s.n, s.sum)
		c.find(f)
		return nil // its number says nothing
	}
	if last := g.last[s.key]; s.n < last.N {
		if !g.Ordered {
			c.passed++
			return nil
		}
		f.Kind, f.Text = Inversion, fmt.Sprintf("handled by %s %v after number %d of its key by %s", e.Who, e.At.Sub(last.At), last.N, last.Who)
		c.find(f)
		return nil
	}
	g.last[s.key] = e
	return nil
}

// Kept takes a dead letter of a group, by the id of its message. Each is to be given
// once.
func (c *Checker) Kept(group, id string) {
	i, ok := c.byID[id]
	switch {
	case c.byName[group] == nil || id == "":
	case ok:
		c.byName[group].kept[i] = true
	default:
		c.find(Finding{Kind: Invented, Group: group, ID: id, Tx: txOf(id), Text: "among the dead letters, and " + c.origin(id)})
	}
}

// Still takes a message that is still somewhere on its way to a group, by its
// id. An empty group means all that it is for.
func (c *Checker) Still(group, id, where string) {
	i, ok := c.byID[id]
	if !ok {
		return
	}
	for _, g := range c.groups {
		if group == g.Name || group == "" && g.Path == PathOf(c.sent[i].key) {
			g.stuck[i] = where
		}
	}
}

// Waiting says that n messages of some groups are still somewhere on their way
// to them, where it is not known which. The latest that have no effect in any of
// these groups are taken for them. A message that several of them handle counts
// once.
func (c *Checker) Waiting(groups []string, n int64, where string) {
	c.waiting = append(c.waiting, &waiting{groups, n, where, map[int32]bool{}})
}

// missing reports whether anything that is to be handled has no effect and is
// not kept.
func (c *Checker) missing() bool {
	for _, g := range c.groups {
		for i, s := range c.sent {
			if PathOf(s.key) == g.Path && !s.unsure && !g.kept[int32(i)] && (g.handled == nil || !g.handled[i]) {
				return true
			}
		}
	}
	return false
}

// where returns the place at which a message of a group waits, or "" if it does not
// wait. i is an index of sent.
func (c *Checker) where(g *groupState, i int32) string {
	for _, w := range c.waiting {
		switch {
		case !slices.Contains(w.groups, g.Name):
		case w.taken[i]:
			return w.where
		case w.n > 0 && c.open(w.groups, g.Path, i):
			w.n--
			w.taken[i] = true
			return w.where
		}
	}
	return ""
}

// open reports whether none of these groups of a path has handled a message, and
// none keeps it.
func (c *Checker) open(groups []string, path string, i int32) bool {
	return !slices.ContainsFunc(c.groups, func(g *groupState) bool {
		return g.Path == path && slices.Contains(groups, g.Name) && (g.kept[i] || g.handled != nil && g.handled[i])
	})
}

// Marks at the end of ids.
const (
	badMark    = "/bad" // of a message that only a dead letter can keep
	secondMark = "/v2"  // of a message of version 2
)

// IDOf is the id of the i-th message of a transaction.
func IDOf(tx string, i int) string { return fmt.Sprintf("%s/%d", tx, i) }

func txOf(id string) string {
	tx, _, _ := strings.Cut(id, "/")
	return tx
}

// origin says where a message comes from that was not committed.
func (c *Checker) origin(id string) string {
	tx := txOf(id)
	switch c.ended[tx] {
	case RolledBack, Failed:
		return "its transaction was rolled back"
	case Committed:
		return "its part of the transaction was undone"
	}
	if c.perTx[tx] > 0 {
		return "its part of the transaction was undone"
	}
	return "no transaction that committed published it"
}

func (c *Checker) find(f Finding) {
	c.counts[f.Kind]++
	if c.counts[f.Kind] <= maxFindings {
		c.findings = append(c.findings, f)
	}
}
