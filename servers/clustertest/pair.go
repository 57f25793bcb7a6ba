package clustertest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/servers"
)

// pairAfter is how long a node of a pair must not answer until it is given up.
const pairAfter = 3 * time.Second

// PairDetection is how long a pair of PostgreSQL needs after a fault until a client
// can go on: pairAfter, the fence and the promotion.
const PairDetection = pairAfter + 3*time.Second

// RunPair breaks the nodes of a PostgreSQL pair, one fault after the other, while
// services work whose database is that pair, and logs a line of figures for each.
// A [servers.FailOver] promotes the standby when the primary has not answered for
// three seconds. h.URL is a broker, which nothing breaks. The node that is the
// primary at the end is lost for good, so that the pair cannot be used afterwards.
func RunPair[Tx any](t *testing.T, h Harness, c *servers.Cluster, db Database[Tx]) {
	o, err := lengthsFrom(os.Getenv(periodVariable), os.Getenv(onlyVariable))
	if err != nil {
		t.Fatal(err)
	}
	if !o.Long {
		o.Watch, o.Late = time.Second, 5*time.Second
	}
	p := &pair{c: c, fail: &servers.FailOver{Pair: c, After: pairAfter}, hold: &hold{}}
	p.seen = func(ctx context.Context) (written, effects int, err error) {
		all, err := db.All(ctx)
		written, effects = counted(all)
		return written, effects, err
	}
	p.fail.Say = func(text string) { t.Log(time.Now().Format("15:04:05.000"), text) }
	ctx := t.Context()
	p.watch(ctx)
	defer func() { p.unwatch() }()
	if err := p.whole(ctx); err != nil {
		t.Fatal(err)
	}
	h.Detection, h.faults, h.stops, h.hold = PairDetection, p.faults(), true, p.hold
	run(t, h, db, o)
}

// A pair is a primary and a standby, and what decides which is which.
type pair struct {
	c    *servers.Cluster
	fail *servers.FailOver
	hold *hold
	seen func(ctx context.Context) (written, effects int, err error) // notes that the primary shows

	unwatch func() // ends the fail-over, and waits for its end
}

// watch has the fail-over run until unwatch.
func (p *pair) watch(ctx context.Context) {
	ctx, stop := context.WithCancel(ctx)
	var watching sync.WaitGroup
	watching.Go(func() { p.fail.Run(ctx) })
	p.unwatch = func() {
		stop()
		watching.Wait()
	}
}

// roles are the nodes as they are now.
func (p *pair) roles() (primary, standby *servers.Server) {
	primary, _ = p.fail.State()
	for _, s := range p.c.Nodes() {
		if s != primary {
			standby = s
		}
	}
	return primary, standby
}

// pairTime bounds each step of a fault; a machine that does much else may need it.
const pairTime = 2 * time.Minute

// until waits until the pair is as it should be.
func (p *pair) until(ctx context.Context, what string, is func(primary *servers.Server, paired bool) bool) error {
	return poll(ctx, what, func() bool { return is(p.fail.State()) })
}

// poll waits until something is so.
func poll(ctx context.Context, what string, is func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, pairTime)
	defer cancel()
	for !is() {
		if err := rest(ctx, 20*time.Millisecond); err != nil {
			return fmt.Errorf("wait until %s: %w", what, err)
		}
	}
	return nil
}

// whole waits until commits wait for the standby.
func (p *pair) whole(ctx context.Context) error {
	return p.until(ctx, "commits wait for the standby", func(_ *servers.Server, paired bool) bool { return paired })
}

// leads waits until s is the primary.
func (p *pair) leads(ctx context.Context, s *servers.Server) error {
	return p.until(ctx, s.Name()+" is the primary", func(primary *servers.Server, _ bool) bool { return primary == s })
}

// alone waits until the primary waits for no standby.
func (p *pair) alone(ctx context.Context) error {
	return p.until(ctx, "the primary goes on alone", func(_ *servers.Server, paired bool) bool { return !paired })
}

// switchOver ends the primary in good order and has the standby take over.
func (p *pair) switchOver(ctx context.Context, primary, standby *servers.Server) error {
	if err := errors.Join(primary.Stop(ctx), p.c.Promote(ctx, standby)); err != nil {
		return err
	}
	return p.leads(ctx, standby)
}

// A step is one thing that a fault does. Once one fails, the others are left out.
type step func() error

func steps(all ...step) error {
	for _, s := range all {
		if err := s(); err != nil {
			return err
		}
	}
	return nil
}

func (p *pair) faults() []fault {
	// broken is a fault of the primary that has the standby promoted.
	broken := func(breaks func(primary *servers.Server, o Lengths) error, away func(o Lengths) time.Duration) func(context.Context, Harness, Lengths, *moments) error {
		return func(ctx context.Context, _ Harness, o Lengths, at *moments) error {
			primary, standby := p.roles()
			at.disturb()
			began := time.Now()
			return steps(
				func() error { return breaks(primary, o) },
				func() error { return p.leads(ctx, standby) },
				func() error { return rest(ctx, max(0, away(o)-time.Since(began))) },
				func() error { return primary.Restart(ctx) },
				func() error { return p.whole(ctx) })
		}
	}
	watched := func(o Lengths) time.Duration { return pairAfter + o.Watch }
	frozen := func(o Lengths) time.Duration { return o.Frozen }
	return []fault{
		{"kill", false, broken(func(s *servers.Server, _ Lengths) error { return s.Kill() }, watched)},
		{"freeze", false, broken(func(s *servers.Server, _ Lengths) error { return s.Pause() }, frozen)},
		{"stop", false, func(ctx context.Context, _ Harness, o Lengths, at *moments) error {
			primary, standby := p.roles()
			at.disturb()
			return steps(
				func() error { return p.switchOver(ctx, primary, standby) },
				func() error { return rest(ctx, o.Watch) },
				func() error { return primary.Restart(ctx) },
				func() error { return p.whole(ctx) })
		}},
		{"standby", false, func(ctx context.Context, _ Harness, o Lengths, at *moments) error {
			_, standby := p.roles()
			at.disturb()
			return steps(
				func() error { return standby.Kill() },
				func() error { return p.alone(ctx) },
				func() error { return rest(ctx, o.Watch) },
				func() error { return standby.Restart(ctx) },
				func() error { return p.whole(ctx) })
		}},
		{"frozen standby", true, func(ctx context.Context, _ Harness, o Lengths, at *moments) error {
			_, standby := p.roles()
			at.disturb()
			return steps(
				func() error { return standby.Pause() },
				func() error { return rest(ctx, o.Frozen) },
				func() error { at.disturb(); return standby.Resume() },
				func() error { return p.whole(ctx) })
		}},
		{"rolling", true, func(ctx context.Context, _ Harness, o Lengths, at *moments) error {
			primary, standby := p.roles()
			at.disturb()
			return steps(
				func() error { return standby.Stop(ctx) },
				func() error { return standby.Restart(ctx) },
				func() error { return p.whole(ctx) },
				func() error { return rest(ctx, o.Watch/2) },
				func() error { at.disturb(); return p.switchOver(ctx, primary, standby) },
				func() error { return primary.Restart(ctx) },
				func() error { return p.whole(ctx) })
		}},
		{"behind", false, p.behind},
		{"lost", false, func(ctx context.Context, _ Harness, _ Lengths, at *moments) error {
			primary, standby := p.roles()
			at.disturb()
			return steps(primary.Close, func() error { return p.leads(ctx, standby) })
		}},
	}
}
