package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/outbox"
)

// A role is what a process does.
type role string

const (
	writing   role = "writer"
	relaying  role = "relay"
	consuming role = "consumer"
)

// job is what a process is told: a line of JSON on its standard input, where no
// other user can read the passwords in it.
type job struct {
	Role     role   `json:"role"`
	Instance string `json:"instance"`
	Life     uint64 `json:"life"` // from 1, grows each time that it is started
	Run      string `json:"run"`
	Broker   string `json:"broker"`
	Store    string `json:"store"`
	Prefix   string `json:"prefix"`
	Seed     uint64 `json:"seed"`

	Writers   int           `json:"writers,omitempty"` // of this process
	Long      bool          `json:"long,omitempty"`    // this process has the long transactions
	LongTx    time.Duration `json:"long_tx,omitempty"`
	Rollbacks float64       `json:"rollbacks,omitempty"`
	Keys      int           `json:"keys,omitempty"`
	File      string        `json:"file,omitempty"` // for outcomes

	Group      string  `json:"group,omitempty"`
	Ordered    bool    `json:"ordered,omitempty"` // demand it of the transport
	Batch      bool    `json:"batch,omitempty"`   // several messages in a transaction
	Failures   float64 `json:"failures,omitempty"`
	Partitions int     `json:"partitions,omitempty"`

	Paths      []string `json:"paths,omitempty"`       // besides the main one
	First      bool     `json:"first,omitempty"`       // this writer publishes what is rare
	Large      int      `json:"large,omitempty"`       // how long the text of a note near the size limit is
	Alone      bool     `json:"alone,omitempty"`       // this consumer is not on the main path
	Deployed   bool     `json:"deployed,omitempty"`    // this consumer handles version 2
	LongPolicy bool     `json:"long_policy,omitempty"` // path outage has the default retry policy
}

// A report is what a process tells the one that started it, as a line of JSON.
type report struct {
	Ready       bool  `json:"ready"`
	Redelivered int64 `json:"redelivered"`
	Retried     int64 `json:"retried"`
	Dead        int64 `json:"dead"`
	Published   int64 `json:"published"`
	Unhandled   int64 `json:"unhandled"` // messages of path versions that came to one without their handler
	Lines       int64 `json:"lines"`     // that it logged, those for debugging left out
	Unwritten   int64 `json:"unwritten"` // outcomes of transactions that a writer could not write down
}

func (r *report) add(o report) {
	r.Redelivered += o.Redelivered
	r.Retried += o.Retried
	r.Dead += o.Dead
	r.Published += o.Published
	r.Unhandled += o.Unhandled
	r.Lines += o.Lines
	r.Unwritten += o.Unwritten
}

// An order is what a process is told later, as a line of JSON.
type order struct {
	Pause bool `json:"pause"` // write nothing for now
}

// names of what a run makes at the broker.
func eventName(run string) string        { return "verify-" + run + ".noted" }
func sharedName(run string) string       { return "verify-" + run + ".paths" }
func foreignName(run string) string      { return "verify-" + run + "." + foreign }
func booksName(run string) string        { return "verify-" + run + "-books" }
func groupName(run, group string) string { return "verify-" + run + "-" + group }
func (j *job) event() dovetail.Event[Note] {
	return dovetail.NewEvent[Note](eventName(j.Run)).Keyed(func(n Note) string { return n.Key }).
		On(dovetail.NewChannel(eventName(j.Run)).Partitions(j.Partitions))
}

// lease is how long a relay that was killed keeps the others waiting.
const lease = time.Second

// window is how many messages a consumer has in hand. What it had when it is
// killed comes again only after a while, on brokers that wait for a lease to
// end; with a large window, consumers that are killed every other second would
// spend the run waiting for one another's.
const window = 128

// reportEvery is how much of its counts a process that is killed takes with it.
const reportEvery = 50 * time.Millisecond

// Serve is one process of a run: what Options.Command starts calls it with its
// standard input and output. It ends when its input does, which happens in
// whatever way the process that started it ends.
func Serve(ctx context.Context, open func(ctx context.Context, url, prefix string, migrate bool) (Store, error), in io.Reader, out io.Writer) (err error) {
	lines := json.NewDecoder(in)
	var j job
	if err := lines.Decode(&j); err != nil {
		return fmt.Errorf("read what to do from standard input: %w: this command is for dovetail verify itself", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	orders := make(chan order, 16)
	go func() { // ends with the input, or with the process
		defer cancel()
		for {
			var o order
			if lines.Decode(&o) != nil {
				return
			}
			select {
			case orders <- o:
			case <-ctx.Done():
				return
			}
		}
	}()
	db, err := open(ctx, j.Store, j.Prefix, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	name := booksName(j.Run)
	if j.Role == consuming {
		name = groupName(j.Run, j.Group)
	}
	log, waited := &lineCount{}, &atomic.Int64{}
	svc, err := dovetail.Open(ctx, name, j.Broker, dovetail.Options{Instance: j.Instance, Window: window, Logger: slog.New(log),
		Hooks: dovetail.Hooks{Notice: func(n dovetail.Notice) {
			if n.Kind == dovetail.NoticeUnhandled && n.Err != nil { // else it is another's part of the channel
				waited.Add(1)
			}
		}},
		Retry: dovetail.RetryPolicy{Attempts: 500, First: 20 * time.Millisecond, Max: time.Second}})
	if err != nil {
		return err
	}
	return (&process{job: j, db: db, svc: svc, orders: orders, log: log, waited: waited, out: json.NewEncoder(out)}).run(ctx)
}

// process is a job in hand.
type process struct {
	job
	db     Store
	svc    *dovetail.Service
	stats  boxStats
	orders chan order
	log    *lineCount
	told   *diary        // of a writer
	waited *atomic.Int64 // messages without their handler
	out    *json.Encoder
}

// lineCount counts what is logged.
type lineCount struct{ n atomic.Int64 }

// Enabled leaves out what is for debugging.
func (l *lineCount) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }

// Handle counts a line.
func (l *lineCount) Handle(context.Context, slog.Record) error {
	l.n.Add(1)
	return nil
}

// WithAttrs returns the same counter.
func (l *lineCount) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup returns the same counter.
func (l *lineCount) WithGroup(string) slog.Handler { return l }

// run works until ctx ends.
func (p *process) run(ctx context.Context) error {
	var write func(context.Context) error
	switch p.Role {
	case writing:
		w, err := newWriter(p)
		if err != nil {
			return errors.Join(err, p.svc.Close(ctx))
		}
		write = w.run
	case relaying:
		p.declare()
		p.stats = p.db.relay(p.svc, outbox.Options{Lease: lease})
	case consuming:
		p.consume()
	default:
		return errors.Join(fmt.Errorf("role %q: want %s, %s or %s", p.Role, writing, relaying, consuming), p.svc.Close(ctx))
	}
	ended := make(chan error, 1)
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	go func() { ended <- p.svc.Run(serving) }()
	select {
	case <-p.svc.Ready():
	case err := <-ended:
		return err
	case <-ctx.Done():
		stop()
		return <-ended
	}
	written := make(chan error, 1)
	if write != nil {
		go func() { written <- write(ctx) }()
	} else {
		written <- nil
	}
	err := p.report(ctx, ended)
	if err != nil {
		return err // the service has ended by itself
	}
	err = <-written
	stop()
	return errors.Join(err, <-ended, p.out.Encode(p.counts()))
}

// report tells of the counts until ctx ends; an error says that the service has
// ended before.
func (p *process) report(ctx context.Context, ended <-chan error) error {
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	last := p.counts()
	last.Ready = true
	for err := p.out.Encode(last); err == nil; {
		select {
		case <-tick.C:
			now := p.counts()
			if now.Ready = true; now != last {
				last, err = now, p.out.Encode(now)
			}
		case <-ctx.Done():
			return nil
		case err := <-ended:
			if err == nil {
				err = errors.New("the service has ended by itself")
			}
			return err
		}
	}
	return nil // nobody reads any more, so ctx is about to end
}

func (p *process) counts() report {
	s := p.svc.Stats()
	r := report{Redelivered: s.Redelivered, Retried: s.Retried, Dead: s.Dead, Unhandled: p.waited.Load(), Lines: p.log.n.Load()}
	if p.stats != nil {
		b, _ := p.stats(context.Background()) // how many were published it knows in any case
		r.Published = b.Published
	}
	if p.told != nil {
		r.Unwritten = p.told.missing()
	}
	return r
}
