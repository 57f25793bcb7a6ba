package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// Options say what to measure. The zero value of each field is its default.
type Options struct {
	Paths      []string      // default: all
	Transports []string      // mem, embedded, nats, file, rabbitmq, kafka, all, or URLs; default: mem and nats
	Size       int           // bytes of a body; default 1024
	Count      int           // messages in a round; default: what Seconds allow
	Seconds    float64       // that a round of the slower side takes; default 1
	Rounds     int           // of each side; default 3
	Callers    []int         // how many send and ask at once; default 1, 16, 64
	Batch      int           // messages in a batch, and in the raw client's pipeline; default 1000
	Rate       int           // of the open loop, in messages per second; default 1000
	Backlog    int           // messages in an outbox that is drained; default 100,000
	LongTx     time.Duration // how long a transaction stays open beside each round of path outbox, PostgreSQL only; default 0, none
	Envelope   bool          // raw messages carry the same headers, where the transport has them: what is left is what Dovetail itself costs
	Dir        string        // where servers keep their messages; default: a temporary directory, removed at the end

	// Profile is a directory for processor profiles of Dovetail's side, one file
	// for each test, of its last round; empty for none. Their rounds are slower.
	Profile string

	// Peers are other libraries to measure beside.
	Peers []Peer

	// Progress is called as the work goes on, from several goroutines.
	Progress func(Progress)
}

// Progress says how far a run is.
type Progress struct {
	Test, Tests   int    // the one being measured, from 1, of how many
	Name          string // of it: "send nats 1 caller"
	Round, Rounds int    // 0 while it warms up
	Side          string // "raw" or "dovetail"
	Done, Total   int    // messages of the round, about
}

// Run measures and reports. What could not be measured is in the report with
// its error; Run itself fails for options that are impossible and when ctx
// ends.
func Run(ctx context.Context, o Options) (*Report, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	dir := o.Dir
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "dovetail-bench-"); err != nil {
			return nil, err
		}
		defer os.RemoveAll(dir)
	}
	if o.Profile != "" {
		if err := os.MkdirAll(o.Profile, 0o755); err != nil {
			return nil, err
		}
	}
	report := newReport(o)
	r := &runner{o: &o, begun: time.Now()}
	for _, name := range o.Transports {
		for _, t := range o.tests() {
			if t.fits(name) {
				r.total++
			}
		}
	}
	for _, name := range o.Transports {
		if err := r.target(ctx, report, name, dir); err != nil {
			return nil, err
		}
	}
	return report, nil
}

type runner struct {
	o      *Options
	begun  time.Time
	total  int
	at     int // the test being measured
	serial int // makes names of channels fresh
}

func (r *runner) target(ctx context.Context, report *Report, name, dir string) error {
	t, err := openTarget(ctx, name, dir, r.o.Envelope)
	if err == nil {
		err = t.openPeers(ctx, r.o.Peers)
	}
	if err != nil {
		return fmt.Errorf("bench %s: %w", redacted(name), err)
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		defer cancel()
		if cerr := t.close(closing); cerr != nil {
			report.Errors = append(report.Errors, fmt.Sprintf("close %s: %v", t.name, cerr))
		}
	}()
	for _, c := range r.o.tests() {
		if !c.fits(name) {
			continue
		}
		r.at++
		res := r.measure(ctx, t, &c)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		report.Results = append(report.Results, res)
	}
	return nil
}

// measure runs one test: a warm-up that finds the count, then the rounds of
// both sides in turn.
func (r *runner) measure(ctx context.Context, t *target, c *test) Result {
	res := Result{Path: c.path, Transport: t.name, Variant: c.variant, Latency: c.latency, Server: t.server, Confirmed: t.saved,
		Goal: c.goal[t.kind], GoalNS: c.goalNS[t.kind]}
	raw, ours := t.raw, t.ours
	if c.durable {
		raw, ours = nil, t.durable
	}
	if ours == nil {
		res.Error = "this transport keeps nothing"
		return res
	}
	sides := []*measuredSide{{name: "raw", side: raw}, {name: "dovetail", side: ours}}
	if !c.durable {
		for _, p := range t.peers {
			sides = append(sides, &measuredSide{name: p.name, side: p.side, peer: true})
		}
	}
	count, err := r.count(ctx, t, c, raw, ours)
	for _, s := range sides {
		if s.count = count; s.peer && err == nil {
			s.count = r.peerCount(ctx, t, c, s, count)
		}
	}
	for round := range r.o.Rounds {
		for _, s := range sides {
			if s.side == nil || err != nil {
				continue
			}
			var got sample
			if got, err = r.round(ctx, t, c, s.side, s.name, round+1, s.count); err != nil {
				switch {
				case s.name == "raw" && errors.Is(err, errAbsent):
					s.side, err = nil, nil
				case s.peer && ctx.Err() == nil: // the others go on without it
					s.side, s.err, err = nil, err, nil
				default:
					err = fmt.Errorf("%s, round %d: %w", s.name, round+1, err)
				}
				continue
			}
			s.all = append(s.all, got)
		}
	}
	if err != nil {
		res.Error = err.Error()
		return res
	}
	res.Count = count
	res.sum(sides[0].all, sides[1].all)
	for _, s := range sides[2:] {
		if !errors.Is(s.err, errAbsent) {
			res.Peers = append(res.Peers, s.peerResult(&res, sides[0].all))
		}
	}
	return res
}

// A measuredSide is a side with its rounds.
type measuredSide struct {
	name  string
	side  side // nil: no more
	peer  bool
	count int
	err   error // of a peer
	all   []sample
}

func (s *measuredSide) peerResult(r *Result, raw []sample) PeerResult {
	p := PeerResult{Name: s.name}
	if s.err != nil {
		p.Error = s.err.Error()
		return p
	}
	beside := Result{Latency: r.Latency}
	beside.sum(raw, s.all)
	p.Ratio, p.RatioP99, p.Figures = beside.Ratio, beside.RatioP99, beside.Ours
	return p
}

// count finds how many messages a round takes, from a short one of each side.
func (r *runner) count(ctx context.Context, t *target, c *test, raw, ours side) (int, error) {
	if c.count > 0 {
		return c.count, nil
	}
	if r.o.Count > 0 {
		return r.o.Count, nil
	}
	if c.open {
		return max(100, int(r.o.Seconds*float64(r.rate(c))*2)), nil
	}
	count := 0
	for _, s := range []side{raw, ours} {
		if s == nil {
			continue
		}
		n, err := r.fits(ctx, t, c, s, "warm-up")
		if errors.Is(err, errAbsent) {
			continue
		}
		if err != nil {
			return 0, fmt.Errorf("warm-up: %w", err)
		}
		if count == 0 || n < count {
			count = n
		}
	}
	return min(max(count, 1000, c.least), r.most()), nil
}

// fits finds how many messages a side has time for: from a short round, and
// from one of half the time, since short rounds are slower than long ones.
func (r *runner) fits(ctx context.Context, t *target, c *test, s side, name string) (int, error) {
	n, most := 500*max(1, min(4, c.callers)), 0
	for range 2 {
		got, err := r.round(ctx, t, c, s, name, 0, n)
		if err != nil {
			return 0, err
		}
		if most = int(got.rate() * r.o.Seconds); most/2 <= n {
			break
		}
		n = min(most/2, r.most())
	}
	return most, nil
}

// peerCount is the count of a peer, which may be too slow for that of the
// others: rates are compared, of rounds that take as long.
func (r *runner) peerCount(ctx context.Context, t *target, c *test, s *measuredSide, count int) int {
	if c.open || c.count > 0 || r.o.Count > 0 {
		return count
	}
	n, err := r.fits(ctx, t, c, s.side, s.name)
	if err != nil && ctx.Err() == nil {
		s.side, s.err = nil, err
	}
	return min(max(n, 500), count)
}

// rate is of the open loop.
func (r *runner) rate(c *test) int {
	if c.rate > 0 {
		return c.rate
	}
	return r.o.Rate
}

// most bounds a round by what it may take in memory or on the disk.
func (r *runner) most() int { return max(1000, min(2_000_000, (1<<28)/(r.o.Size+512))) }

func (r *runner) round(ctx context.Context, t *target, c *test, s side, name string, round, count int) (sample, error) {
	r.serial++
	p := Progress{Test: r.at, Tests: r.total, Name: strings.Join([]string{c.path, t.name, c.variant}, " "),
		Round: round, Rounds: r.o.Rounds, Side: name, Total: count}
	r.o.Progress(p)
	var ticks ticker
	ticks.report = func(done int) {
		p := p
		p.Done = done
		r.o.Progress(p)
	}
	w := work{
		channel: fmt.Sprintf("bench.%s-%d", strings.ToLower(name[:1]), r.serial), size: r.o.Size, count: count,
		callers: c.callers, batch: r.o.Batch, rate: r.rate(c), longTx: r.o.LongTx, unkeyed: c.unkeyed, tick: ticks.add,
	}
	if c.batch > 0 {
		w.batch = c.batch
	}
	if r.o.Profile != "" && name == "dovetail" && round == r.o.Rounds {
		w.profile = filepath.Join(r.o.Profile, fileName(p.Name)+".pprof")
	}
	// A round takes about Seconds; one that hangs must end.
	limit := time.Duration((r.o.Seconds*20 + 60) * float64(time.Second))
	if c.open {
		limit += time.Duration(count) * time.Second / time.Duration(w.rate)
	}
	if c.count > 0 {
		limit += time.Duration(count) * time.Second / 1000 // it is written first
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return c.run(ctx, t, s, w)
}

// fileName makes a test's name one that files can have.
func fileName(test string) string {
	return strings.Trim(regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(strings.ToLower(test), "-"), "-")
}

// machine describes where figures come from.
func machine() Machine {
	return Machine{OS: runtime.GOOS, Arch: runtime.GOARCH, CPUs: runtime.GOMAXPROCS(0), Go: runtime.Version()}
}
