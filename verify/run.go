package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/internal/netfault"
)

// Run runs writers, relays and consumers, breaks what it was asked to, and
// compares. When ctx ends, the writers end early, and the report is about what
// they have done. What the run made at the broker and in the stores is removed;
// it never touches anything else.
//
// An error says that the run could not be made; whether the promises hold, the
// report says.
func Run(ctx context.Context, opts Options) (*Report, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if o.Stop > 0 && !canStop {
		return nil, errors.New("verify: processes cannot be stopped on this system: leave Options.Stop out")
	}
	r := &run{Options: o, id: fmt.Sprintf("r%08x", rand.Uint32()), began: time.Now()}
	rep, err := r.do(ctx)
	if cerr := r.close(context.WithoutCancel(ctx)); rep != nil && cerr != nil {
		rep.Notes = append(rep.Notes, cerr.Error())
	} else if cerr != nil {
		err = errors.Join(err, cerr)
	}
	return rep, err
}

// do makes the run.
func (r *run) do(ctx context.Context) (*Report, error) {
	if err := r.prepare(ctx); err != nil {
		return nil, err
	}
	r.fleet = &fleet{command: r.Command, log: r.Logger, patience: maxFalls, failed: make(chan struct{})}
	r.faults = &faults{fleet: r.fleet, proxies: r.proxies, gone: r.gone, nodes: newNodes(&r.Options), seed: r.Seed}
	r.fleet.excused = r.faults.nodes.disturb
	if err := r.launch(ctx); err != nil && ctx.Err() == nil {
		return nil, err
	}
	r.faults.begin(&r.Options)
	r.writing = time.Now()
	r.walk()
	if err := r.write(ctx); err != nil {
		return nil, err
	}
	ending := r.shown
	ending.Phase, ending.Broken = "ending", r.faults.nodes.is()
	r.Progress(ending)
	r.fleet.stop(writing)
	r.faults.end()
	r.arrive()
	complete, err := r.drain(context.WithoutCancel(ctx))
	if err != nil {
		return nil, err
	}
	r.closeWalk() // what is sent again after this would be handled by nobody
	r.fleet.stop(relaying)
	r.fleet.stop(consuming)
	return r.report(context.WithoutCancel(ctx), complete, r.wrote < r.length())
}

// run is a run in hand.
type run struct {
	Options
	id       string
	began    time.Time
	caps     driver.Capabilities
	groups   []Group
	books    Store // the writers'
	shelf    Store // the consumers'
	walked   []*path
	left     []string // paths that are not walked, with the reason
	letters  *letters // nil where the transport does not show them
	plain    *stranger
	deployed *Deploy  // by path versions
	gone     *episode // nil where the consumers' database cannot be kept away
	walkers  sync.WaitGroup
	lookers  sync.WaitGroup
	rest     func() // ends what walk began
	looked   func() // ends the watch over the letters
	proxies  []*netfault.Proxy
	fleet    *fleet
	faults   *faults

	broker, store, effects string // URLs, by way of proxies where there are any
	cuttable               []string
	diaries                []string
	writing                time.Time
	still                  stillness
	shown                  Progress // while it wrote
	wrote, drained         time.Duration
}

func (r *run) booksPrefix() string { return "dv" + r.id + "w_" }
func (r *run) shelfPrefix() string { return "dv" + r.id + "c_" }

// prepare connects, makes the tables, and puts proxies before the servers.
func (r *run) prepare(ctx context.Context) error {
	conn, err := driver.Open(ctx, r.Broker)
	if err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	r.caps = conn.Capabilities()
	switch {
	case !r.caps.Shared:
		err = fmt.Errorf("%s is memory of one process, and its processes would not reach each other: name a broker that processes share", r.caps.Name)
	case !r.caps.Durable:
		err = fmt.Errorf("%s does not promise to keep what it confirmed, so that there is nothing to prove: name a durable transport", r.caps.Name)
	}
	if err != nil {
		return fmt.Errorf("verify: %w", errors.Join(err, conn.Close(ctx)))
	}
	r.letters = &letters{run: r, conn: conn}
	if r.letters.browser, _ = conn.(driver.Browser); !canBrowse(ctx, conn) {
		if err := conn.Close(ctx); err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		r.letters = nil
	}
	if r.books, err = r.Open(ctx, r.Store, r.booksPrefix(), true); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if r.shelf, err = r.Open(ctx, r.Effects, r.shelfPrefix(), true); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	if err := errors.Join(r.books.tables().create(ctx), r.shelf.tables().create(ctx)); err != nil {
		return fmt.Errorf("verify: %w", err)
	}
	r.broker, r.store, r.effects = r.Broker, r.Store, r.Effects
	if err := r.proxy(); err != nil {
		return err
	}
	return r.choose(ctx)
}

// proxy puts proxies before the servers, where connections are to be cut.
func (r *run) proxy() error {
	for _, c := range []struct {
		what string
		url  *string
	}{{"the broker", &r.broker}, {"the writers' store", &r.store}, {"the consumers' store", &r.effects}} {
		away := c.url == &r.effects && slices.Contains(r.Paths, outage)
		if r.Cut == 0 && !away {
			continue
		}
		p, url, err := proxied(*c.url)
		if err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		if p != nil {
			r.proxies, *c.url = append(r.proxies, p), url
			if r.Cut > 0 {
				r.cuttable = append(r.cuttable, c.what)
			}
			if away {
				r.gone = &episode{proxy: p}
			}
		}
	}
	if r.gone == nil && r.shelf.oneWriter() {
		r.gone = &episode{hold: r.shelf.hold}
	}
	if r.Cut > 0 && len(r.cuttable) == 0 {
		return errors.New("verify: there are no connections to cut: neither the broker's URL nor a store's names one host and port whose clients stay with it: leave cuts out")
	}
	return nil
}

// launch starts the consumers, and when their groups exist, the others.
func (r *run) launch(ctx context.Context) error {
	r.Progress(Progress{Phase: "starting", Of: r.length()})
	r.consumers()
	if r.walks(broadcast) {
		j := r.job(job{Role: consuming, Instance: broadcast + "-1", Store: r.effects, Prefix: r.shelfPrefix(), Group: broadcast, Failures: r.Failures})
		j.Alone, j.Paths = true, []string{broadcast}
		r.fleet.start(j, true)
	}
	if err := r.come(ctx); err != nil {
		return err
	}
	for i := range r.Relays {
		j := r.job(job{Role: relaying, Instance: fmt.Sprintf("relay-%d", i+1), Store: r.store, Prefix: r.booksPrefix()})
		j.Paths = r.names(func(p *path) bool { return !p.foreign })
		r.fleet.start(j, false)
	}
	n := min(4, (r.Writers+3)/4)
	if r.Writers > 1 {
		n = max(n, 2)
	}
	for i := range n {
		j := r.job(job{Role: writing, Instance: fmt.Sprintf("writer-%d", i+1), Store: r.store, Prefix: r.booksPrefix()})
		j.Writers = r.Writers/n + min(1, max(0, r.Writers%n-i))
		j.Seed, j.Rollbacks, j.Keys = r.Seed+uint64(i+1)<<16, r.Rollbacks, r.Keys
		j.Long, j.LongTx, j.First = r.LongTx > 0 && i == 0, r.LongTx, i == 0
		j.Paths = r.names(func(p *path) bool { return !p.foreign })
		j.File = filepath.Join(r.Dir, r.id+"-"+j.Instance)
		r.diaries = append(r.diaries, j.File)
		r.fleet.start(j, false)
	}
	return r.come(ctx)
}

func (r *run) job(j job) job {
	j.Run, j.Broker, j.Large, j.LongPolicy = r.id, r.broker, largest(r.caps), r.Outage > 0
	if r.caps.Order >= driver.OrderOwner {
		j.Partitions = 2 * r.Consumers
	}
	return j
}

// consumers starts them: in one group where partitions have owners; else one in
// a group of its own, whose order is checked, and the others in a second. There
// the first is not killed: what it had in hand would come to its successor
// behind later messages, and the transport does not say otherwise.
func (r *run) consumers() {
	for _, m := range r.mains() {
		for i := range m.n {
			j := r.job(job{Role: consuming, Instance: fmt.Sprintf("%s-%d", m.Name, i+1), Store: r.effects, Prefix: r.shelfPrefix()})
			j.Group, j.Ordered, j.Batch, j.Failures = m.Name, r.caps.Order >= driver.OrderOwner, i%2 == 1, r.Failures
			if m.Name == r.last().Name {
				j.Paths = r.names(func(p *path) bool { return !p.alone })
			}
			r.fleet.start(j, m.spare)
		}
	}
}

// come waits until all that was started is ready.
func (r *run) come(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, time.Minute+r.Patience, errors.New("they did not come up in time"))
	defer cancel()
	if err := r.fleet.ready(ctx); err != nil {
		return fmt.Errorf("verify: start processes: %w", errors.Join(err, context.Cause(ctx)))
	}
	return nil
}

func (r *run) length() time.Duration { return time.Duration(r.Seconds * float64(time.Second)) }

// write lets the writers write until their time is over or ctx ends, and keeps
// them from running away from the consumers.
func (r *run) write(ctx context.Context) error {
	from := r.writing
	defer func() { r.wrote = time.Since(from) }()
	until, tick := time.NewTimer(r.length()), time.NewTicker(lookEvery)
	defer until.Stop()
	defer tick.Stop()
	for {
		select {
		case <-until.C:
			return nil
		case <-ctx.Done():
			return nil
		case <-r.faults.nodes.failed:
			return nil
		case <-r.fleet.failed:
			return r.fell()
		case <-tick.C:
		}
		p, ok := r.look(context.WithoutCancel(ctx))
		if !ok {
			continue
		}
		r.measure(p)
		p.Phase, p.Done, p.Of = "writing", time.Since(from), r.length()
		r.Progress(p)
		r.shown = p
		for _, m := range r.fleet.members {
			if m.job.Role == writing {
				m.pause(p.ahead > int64(r.Ahead))
			}
		}
	}
}
