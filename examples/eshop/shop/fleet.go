package shop

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// A fleet is all instances of the four services.
type fleet interface {
	// ready waits until every instance serves.
	ready(ctx context.Context) error
	// failed is closed when an instance ends that should not; stop says why.
	failed() <-chan struct{}
	// calm stops killing.
	calm()
	counts(ctx context.Context) (c Counts, kills int)
	// stop ends the instances and waits for them.
	stop() error
}

// launch starts the services, in this process or in processes of their own.
func (c *Config) launch(ctx context.Context) (fleet, error) {
	var names []instanceName
	for _, s := range Services {
		n := 1
		if s == "catalog" {
			n = c.Catalogs
		}
		for i := range n {
			names = append(names, instanceName{s, fmt.Sprintf("%s-%d", s, i+1)})
		}
	}
	if c.Process != nil {
		return launchProcesses(ctx, c, names)
	}
	return launchHere(ctx, c, names)
}

type instanceName struct{ service, name string }

// endings are what ends the members of a fleet, in order. Those that ask others
// come first: what they have in hand may need an answer yet.
type endings struct {
	all []ending

	mu   sync.Mutex
	errs []error
	fail chan struct{}
}

type ending struct {
	cancel context.CancelFunc
	ended  chan struct{}
}

// start runs a member in a goroutine of its own. Its context ends when its turn
// has come; that it returns earlier, or with an error, ends the fleet.
func (e *endings) start(ctx context.Context, name string, run func(context.Context) error) {
	ctx, cancel := context.WithCancel(ctx)
	one := ending{cancel, make(chan struct{})}
	e.all = append(e.all, one)
	go func() {
		defer close(one.ended)
		err := run(ctx)
		if err == nil && ctx.Err() == nil {
			err = errors.New("has ended by itself")
		}
		if err == nil {
			return
		}
		e.mu.Lock()
		defer e.mu.Unlock()
		if len(e.errs) == 0 {
			close(e.fail)
		}
		e.errs = append(e.errs, fmt.Errorf("%s: %w", name, err))
	}()
}

// stop ends the members, one after the other, and says which of them failed.
func (e *endings) stop() error {
	for _, one := range e.all {
		one.cancel()
		<-one.ended
	}
	return errors.Join(e.errs...)
}

func (e *endings) failed() <-chan struct{} { return e.fail }

// localFleet is the fleet within this process.
type localFleet struct {
	endings
	instances []*instance
}

func launchHere(ctx context.Context, c *Config, names []instanceName) (fleet, error) {
	w := &localFleet{endings: endings{fail: make(chan struct{})}}
	for _, n := range names {
		i, err := c.open(ctx, n.service, n.name)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("start %s: %w", n.name, err), w.stop())
		}
		w.instances = append(w.instances, i)
		// The instances outlive ctx: they end when stop says so.
		w.start(context.WithoutCancel(ctx), n.name, i.run)
	}
	return w, nil
}

func (w *localFleet) ready(ctx context.Context) error {
	for _, i := range w.instances {
		select {
		case <-i.svc.Ready():
		case <-w.fail:
			return nil // stop says why
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func (w *localFleet) calm() {}

func (w *localFleet) counts(ctx context.Context) (c Counts, kills int) {
	for _, i := range w.instances {
		c.add(i.counts(ctx))
	}
	return c, 0
}
