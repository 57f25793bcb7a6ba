package verify

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/dovetail-go/dovetail/internal/netfault"
)

// faults break things until they are told to stop.
type faults struct {
	fleet   *fleet
	proxies []*netfault.Proxy
	gone    *episode // the consumers' database is away at times; nil for never
	nodes   *nodes
	seed    uint64

	quit context.CancelFunc
	all  sync.WaitGroup

	far map[role]int64 // how far a role was when one of it was killed last

	mu          sync.Mutex
	stops, cuts int
}

// begin begins to break what was asked for.
func (f *faults) begin(o *Options) {
	ctx, quit := context.WithCancel(context.Background())
	f.quit, f.far = quit, map[role]int64{}
	f.every(ctx, o.Kill, 1, func(ctx context.Context, r *rand.Rand) { f.kill(r) })
	f.every(ctx, o.Stop, 2, f.stop)
	if o.Cut > 0 && len(f.proxies) > 0 {
		f.every(ctx, o.Cut, 3, func(ctx context.Context, r *rand.Rand) { f.cut(ctx, r, o.Cut) })
	}
	if len(o.Nodes) > 0 {
		f.all.Go(func() { f.nodes.run(ctx, rand.New(rand.NewPCG(f.seed, 4))) })
	}
}

// end stops breaking and heals what can be healed.
func (f *faults) end() {
	if f.quit == nil {
		return
	}
	f.quit()
	f.all.Wait()
}

func (f *faults) every(ctx context.Context, d time.Duration, stream uint64, do func(context.Context, *rand.Rand)) {
	if d == 0 {
		return
	}
	r := rand.New(rand.NewPCG(f.seed, stream))
	f.all.Go(func() {
		tick := time.NewTicker(d)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				do(ctx, r)
			case <-ctx.Done():
				return
			}
		}
	})
}

// kill kills one of those that are ready, so that on a slow machine the run
// still gets on.
func (f *faults) kill(r *rand.Rand) {
	for _, i := range r.Perm(len(f.fleet.members)) {
		m := f.fleet.members[i]
		if f.mayDie(m.job.Role, r) && m.kill() {
			f.far[m.job.Role] = f.fleet.far(m.job.Role)
			f.fleet.mu.Lock()
			f.fleet.kills++
			f.fleet.mu.Unlock()
			return
		}
	}
}

// mayDie says whether a process of a role is killed that could be. Of relays and
// consumers, one dies mostly when something was published or handled since the
// last death: those that are killed whenever they have come up prove nothing.
func (f *faults) mayDie(of role, r *rand.Rand) bool {
	if of == consuming && f.gone.is() {
		return false // it would not come up again, and there would be nothing to watch
	}
	return of == writing || f.fleet.far(of) > f.far[of] || r.IntN(4) == 0
}

// stop stops one for a while: often a moment, sometimes for longer than a relay's
// lease.
func (f *faults) stop(ctx context.Context, r *rand.Rand) {
	d := time.Duration(r.Int64N(int64(300 * time.Millisecond)))
	if r.IntN(3) == 0 {
		d += lease + lease/4
	}
	for _, i := range r.Perm(len(f.fleet.members)) {
		m := f.fleet.members[i]
		if !m.sleep() {
			continue
		}
		f.mu.Lock()
		f.stops++
		f.mu.Unlock()
		f.all.Go(func() {
			backoff.Sleep(ctx, d)
			m.wake()
		})
		return
	}
}

// cut breaks or holds up all connections to one server for a while.
func (f *faults) cut(ctx context.Context, r *rand.Rand, every time.Duration) {
	p := f.proxies[r.IntN(len(f.proxies))]
	d := time.Duration(r.Int64N(int64(min(time.Second, every/2))))
	if f.gone.is() && f.gone.proxy == p {
		return
	}
	f.mu.Lock()
	f.cuts++
	f.mu.Unlock()
	if r.IntN(2) == 0 {
		p.Cut()
	} else {
		p.Stall()
	}
	backoff.Sleep(ctx, d)
	if !f.gone.is() || f.gone.proxy != p {
		p.Heal()
	}
}
