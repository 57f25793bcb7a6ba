package bench

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"
)

// The paths that can be measured.
const (
	PathSend    = "send"    // handed over → confirmed
	PathReceive = "receive" // a backlog → handled and settled
	PathE2E     = "e2e"     // sent → handled: as fast as possible, and at a fixed rate
	PathRequest = "request" // asked → answered
	PathJSON    = "json"    // e2e in memory with typed values, encoded and decoded
	PathOutbox  = "outbox"  // committed with a change in a database → confirmed, or delivered
	PathInbox   = "inbox"   // handled once, noted in a database
)

// Paths returns the names of all paths.
func Paths() []string {
	return []string{PathSend, PathReceive, PathE2E, PathRequest, PathJSON, PathOutbox, PathInbox}
}

// A test is one line of the report.
type test struct {
	path    string
	variant string
	latency bool // the ratio is of latencies, not of rates
	callers int
	batch   int                // instead of the options'
	count   int                // instead of what the time allows
	least   int                // of the count, beyond the default's
	rate    int                // instead of the options'
	unkeyed bool               // without keys
	held    bool               // a transaction stays open beside
	box     bool               // is for databases; others are for transports
	open    bool               // an open loop: the count follows from the rate
	goal    map[string]float64 // of the ratio, by target
	goalNS  map[string]float64 // of nanoseconds per message, where no ratio says anything
	run     func(ctx context.Context, t *target, s side, w work) (sample, error)
	durable bool // on the durable side; without a raw one
}

func method(f func(side) func(context.Context, work) (sample, error)) func(context.Context, *target, side, work) (sample, error) {
	return func(ctx context.Context, _ *target, s side, w work) (sample, error) { return f(s)(ctx, w) }
}

// tests returns what the options ask for.
func (o *Options) tests() []test {
	send := method(func(s side) func(context.Context, work) (sample, error) { return s.send })
	request := method(func(s side) func(context.Context, work) (sample, error) { return s.request })
	var all []test
	for _, p := range o.Paths {
		switch p {
		case PathSend:
			all = append(all, test{path: p, variant: fmt.Sprintf("1 caller, batches of %d", o.Batch), run: send,
				goal: map[string]float64{"nats": 0.80, "file": 0.85, "rabbitmq": 0.95, "kafka": 0.85}})
			all = append(all, test{path: p, variant: fmt.Sprintf("1 caller, batches of %d, no keys", o.Batch), run: send, unkeyed: true})
			for _, n := range o.Callers {
				all = append(all, test{path: p, variant: callers(n) + ", one by one", callers: n, run: send})
			}
		case PathReceive:
			all = append(all, test{path: p, variant: "backlog, settled each", goal: map[string]float64{"nats": 0.95, "file": 0.85, "rabbitmq": 0.90, "kafka": 0.85},
				run: method(func(s side) func(context.Context, work) (sample, error) { return s.receive })})
		case PathE2E:
			all = append(all,
				test{path: p, variant: "as fast as possible", goalNS: map[string]float64{"mem": 600}, run: method(func(s side) func(context.Context, work) (sample, error) { return s.flow })},
				test{path: p, variant: fmt.Sprintf("at %d/s", o.Rate), latency: true, open: true, goal: map[string]float64{"nats": 1.1, "rabbitmq": 1.1},
					run: method(func(s side) func(context.Context, work) (sample, error) { return s.latency })})
		case PathRequest:
			for _, n := range o.Callers {
				t := test{path: p, variant: callers(n), callers: n, latency: n == 1, run: request}
				if n == 1 {
					t.goal = map[string]float64{"nats": 1.15}
				} else {
					t.goal = map[string]float64{"nats": 0.85}
				}
				all = append(all, t)
			}
			all = append(all, test{path: p, variant: "1 caller, durable", callers: 1, latency: true, durable: true, run: request})
		case PathOutbox, PathInbox:
			all = append(all, o.boxTests(p)...)
		case PathJSON:
			all = append(all, test{path: p, variant: "typed, both ways", goal: map[string]float64{"mem": 0.85}, run: typedJSON})
		}
	}
	return all
}

func callers(n int) string {
	if n == 1 {
		return "1 caller"
	}
	return fmt.Sprintf("%d callers", n)
}

// check fills in what was left out and refuses what is impossible.
func (o *Options) check() error {
	if len(o.Paths) == 0 {
		o.Paths = Paths()
	}
	for _, p := range o.Paths {
		if !slices.Contains(Paths(), p) {
			return fmt.Errorf("path %q is unknown: want %s", p, strings.Join(Paths(), ", "))
		}
	}
	if len(o.Transports) == 0 {
		o.Transports = []string{"mem", "nats"}
		if !slices.ContainsFunc(o.Paths, func(p string) bool { return p != PathOutbox && p != PathInbox }) {
			o.Transports = []string{"postgres", "sqlite"}
		}
	}
	if slices.Contains(o.Transports, "all") {
		o.Transports = everything()
	}
	for _, name := range o.Transports {
		if !slices.Contains(targetNames, name) && !strings.Contains(name, ":") {
			return fmt.Errorf("transport %q is unknown: want %s, all, or a broker's URL", name, strings.Join(targetNames, ", "))
		}
	}
	if len(o.Callers) == 0 {
		o.Callers = []int{1, 16, 64}
	}
	for _, n := range o.Callers {
		if n < 1 || n > 4096 {
			return fmt.Errorf("%d callers: want 1 to 4096", n)
		}
	}
	for _, f := range []struct {
		field    *int
		name     string
		def, max int
	}{
		{&o.Size, "size", 1024, 1 << 20}, {&o.Rounds, "rounds", 3, 1000}, {&o.Batch, "batch", 1000, 100_000},
		{&o.Rate, "rate", 1000, 1_000_000}, {&o.Count, "count", 0, 10_000_000}, {&o.Backlog, "backlog", 100_000, 100_000_000},
	} {
		if *f.field == 0 {
			*f.field = f.def
		}
		if *f.field < 0 || *f.field > f.max {
			return fmt.Errorf("%s is %d: want 1 to %d", f.name, *f.field, f.max)
		}
	}
	if o.Seconds == 0 {
		o.Seconds = 1
	}
	if o.Seconds < 0 || o.Seconds > 3600 {
		return fmt.Errorf("seconds is %g: want above 0, to 3600", o.Seconds)
	}
	if o.LongTx < 0 || o.LongTx > time.Hour {
		return fmt.Errorf("long transaction is %v: want 0 for none, to 1h", o.LongTx)
	}
	if o.Progress == nil {
		o.Progress = func(Progress) {}
	}
	return nil
}

// List returns what Run would measure, as "path transport variant".
func List(o Options) ([]string, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	var all []string
	for _, name := range o.Transports {
		for _, t := range o.tests() {
			if t.fits(name) {
				all = append(all, fmt.Sprintf("%s\t%s\t%s", t.path, redacted(name), t.variant))
			}
		}
	}
	return all, nil
}

// fits reports whether the test makes sense on a target: typed values are
// measured where nothing else costs anything.
func (t *test) fits(target string) bool {
	if isDatabase(target) != t.box {
		return false
	}
	if t.held && target == "sqlite" {
		return false // it has one writer, which the transaction would be
	}
	return (t.path != PathJSON || target == "mem") && (!t.durable || target != "mem")
}
