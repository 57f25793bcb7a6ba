package dovetail

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// Run serves until ctx ends: it provisions what the service sends and handles,
// opens the receivers, runs the attached components, and hands messages to the
// handlers. When ctx ends it stops receiving, lets the handlers finish for up
// to DrainTimeout, hands back what has not begun, settles, stops the
// components and closes; it then returns nil. A service runs once.
//
// Everything that is wrong with the registrations is returned at once, before
// anything is opened.
func (s *Service) Run(ctx context.Context) error {
	if err := s.begin(); err != nil {
		return err
	}
	defer close(s.ended)
	r := &run{s: s}
	err := r.serve(ctx)
	s.deadLog.end(s)
	s.mu.Lock()
	s.state = closed
	s.mu.Unlock()
	s.topo.stop()
	if s.owns {
		closeCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		err = errors.Join(err, s.conn.Close(closeCtx))
	}
	if err != nil {
		return fmt.Errorf("run service %s: %w", s.name, err)
	}
	return nil
}

func (s *Service) begin() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch s.state {
	case running:
		return fmt.Errorf("run service %s: it is running already", s.name)
	case closed:
		return fmt.Errorf("run service %s: it was closed: a service runs once", s.name)
	}
	if err := errors.Join(append(s.errs, s.conflicts()...)...); err != nil {
		return fmt.Errorf("run service %s: %w", s.name, err)
	}
	s.state = running
	s.topo.changed()
	return nil
}

// A run is one Run: what it has opened and started.
type run struct {
	s         *Service
	consumers []*groupConsumer
	sources   []*source // of the service's channels
	replies   *source
	claims    *claims // to keys; nil where none are made
	lookout   lookout // for waiting channels

	receiving sync.WaitGroup // goroutines that receive
	failed    chan error     // first error that ends the service
}

func (r *run) serve(ctx context.Context) error {
	s := r.s
	r.failed = make(chan error, 1)
	r.plan()
	s.underway.Store(r)
	if err := s.provisionAll(ctx); err != nil {
		return ignoreCancel(ctx, err)
	}

	// Handlers, settlements and components outlive ctx, until they have drained,
	// and settlements those handlers that drain cancels.
	base, hardStop := context.WithCancel(context.WithoutCancel(ctx))
	defer hardStop()
	settling, stopSettling := context.WithCancel(context.WithoutCancel(ctx))
	defer stopSettling()
	receive, stopReceiving := context.WithCancel(ctx)
	defer stopReceiving()
	replyCtx, stopReplies := context.WithCancel(base)
	defer stopReplies()

	if err := r.open(receive, replyCtx); err != nil {
		err = errors.Join(err, r.closeSources(base))
		r.removeGroups(base)
		return ignoreCancel(ctx, err)
	}
	stopComponents := r.startComponents(base)

	var completers sync.WaitGroup
	stopFinishers := make(chan struct{})
	for _, b := range r.consumers {
		b.start(base)
		completers.Go(func() { (&completer{b: b}).run(settling, base.Done(), stopFinishers) })
	}
	var replying sync.WaitGroup
	for _, src := range r.standing() {
		replying.Go(func() { r.fail(src.run(replyCtx)) })
		replying.Go(func() { src.watch(replyCtx) })
	}
	if r.claims != nil {
		replying.Go(func() { r.claims.run(replyCtx) })
		r.claims.greet(receive)
	}
	leases, stopLeases := context.WithCancel(base)
	defer stopLeases()
	var keeping sync.WaitGroup
	keeping.Go(func() { r.trim(leases) })
	keeping.Go(func() { r.watchCompany(receive) })
	for _, src := range r.sources {
		r.receiving.Go(func() { r.fail(src.run(receive)) })
		r.receiving.Go(func() { src.watch(receive) })
		keeping.Go(func() { src.extend(leases) })
		keeping.Go(func() { src.revoke(leases) })
	}
	r.lookout = lookout{r: r, receive: receive, leases: leases, keeping: &keeping, open: make(map[string]*source)}
	r.receiving.Go(r.lookout.run)
	close(s.ready)
	s.opts.Logger.Debug("service serves", "service", s.name, "instance", s.opts.Instance, "transport", s.caps.Name)

	var err error
	select {
	case <-ctx.Done():
	case err = <-r.failed:
	}

	stopReceiving()
	r.receiving.Wait()
	err = errors.Join(err, r.drain(hardStop))
	stopSettling()
	close(stopFinishers)
	completers.Wait()
	for _, b := range r.consumers {
		b.sched.close()
		if b.sched.inHand() == 0 { // a handler that ignores its context is left behind, as drain has told
			b.workers.Wait()
		}
	}
	stopLeases()
	keeping.Wait()
	stopComponents()
	select {
	case late := <-r.failed: // while it drained
		err = errors.Join(err, late)
	default:
	}
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	stopReplies()
	replying.Wait()
	err = errors.Join(err, r.closeSources(closing))
	r.removeGroups(closing)
	return err
}

// fail ends the service because of err, if there is one.
func (r *run) fail(err error) {
	if err == nil {
		return
	}
	select {
	case r.failed <- err:
	default:
	}
}

// drain hands back what has not begun and waits for what has, first for as long
// as the options say, then, with the handlers' contexts cancelled, a little
// longer.
func (r *run) drain(hardStop context.CancelFunc) error {
	deadline := time.Now().Add(r.s.opts.DrainTimeout)
	for _, b := range r.consumers {
		b.sched.drain()
	}
	left := 0
	for _, b := range r.consumers {
		if !b.drained(time.Until(deadline)) {
			left += b.sched.inHand()
		}
	}
	if left == 0 {
		return nil
	}
	hardStop()
	deadline = time.Now().Add(min(r.s.opts.DrainTimeout, 5*time.Second))
	for _, b := range r.consumers {
		b.drained(time.Until(deadline))
	}
	return fmt.Errorf("%d messages were not finished within the drain timeout of %v (Options.DrainTimeout); they will be delivered again", left, r.s.opts.DrainTimeout)
}

// startComponents runs the attached components and returns what stops them and
// waits.
func (r *run) startComponents(base context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(base))
	var wg sync.WaitGroup
	for _, c := range r.s.components {
		wg.Go(func() {
			if err := apart(func() error { return c.Run(ctx) }); err != nil && ctx.Err() == nil {
				r.fail(err)
			}
		})
	}
	return func() {
		cancel()
		wg.Wait()
	}
}

// groups makes a group consumer of each channel and group that has handlers.
func (r *run) groups() {
	s := r.s
	byName := make(map[[2]string]*groupConsumer)
	for _, sub := range s.subs {
		id := [2]string{sub.channel.Name, s.group(sub)}
		b := byName[id]
		if b == nil {
			b = &groupConsumer{s: s, channel: sub.channel, group: id[1], broadcast: sub.broadcast,
				subs: make(map[string]*subscription), names: make(map[string]bool)}
			byName[id] = b
			r.consumers = append(r.consumers, b)
		}
		b.add(sub)
	}
}

// plan makes the group consumers and the sources that feed them.
func (r *run) plan() {
	s := r.s
	r.groups()
	for _, b := range r.consumers {
		b.wrap()
		b.sched = newScheduler(b.window(), s.opts.MaxDeferred, s.opts.WindowBytes)
		b.sched.sizeEstimate = s.opts.Limits.Body // until it is known how large they are
		r.sources = append(r.sources, &source{s: s, sub: b.subscription(), sink: b})
	}
	if q := r.requeues(); q != nil {
		r.sources = append(r.sources, q)
	}
	r.claims = r.newClaims()
	r.replies = &source{s: s, sub: s.replies.subscription(), sink: &s.replies}
}

// add takes a subscription into the group consumer: what they share is the most that
// any of them asks for.
func (b *groupConsumer) add(sub *subscription) {
	b.subs[sub.wire] = sub
	b.names[sub.spec.Name] = true
	if sub.anyType {
		b.any = sub
	}
	n := sub.concurrency
	if n == 0 {
		n = b.s.opts.Concurrency
	}
	b.concurrency = max(b.concurrency, n)
	b.ordered = b.ordered || sub.ordered
	b.keyed = b.keyed || sub.spec.Keyed
	b.channel.Partitions = max(b.channel.Partitions, sub.channel.Partitions)
}

// window is how many messages that can move are in hand at most.
func (b *groupConsumer) window() int { return max(b.s.opts.Window, 4*b.concurrency) }

func (b *groupConsumer) subscription() driver.Subscription {
	return driver.Subscription{
		Channel: b.channel, Group: b.group, Instance: b.s.opts.Instance,
		Broadcast: b.broadcast, Ordered: b.ordered, Window: b.window() + b.s.opts.MaxDeferred,
		WindowBytes: b.s.opts.WindowBytes,
	}
}

// standing are the sources that receive until the handlers have drained: that of
// the replies, which they await, and that of the claims to keys.
func (r *run) standing() []*source {
	if r.claims == nil {
		return []*source{r.replies}
	}
	return []*source{r.replies, r.claims.src}
}

// open opens every receiver. Those of the service's channels receive until
// receive ends; those that stand until replies ends.
func (r *run) open(receive, replies context.Context) error {
	opening, cancel := context.WithCancel(receive)
	defer cancel()
	standing := r.standing()
	return eachSource(slices.Concat(standing, r.sources), func(src *source) error {
		life := receive
		if slices.Contains(standing, src) {
			life = replies
		}
		src.turn.L = &src.mu
		if err := src.open(opening, life); err != nil {
			cancel() // the others need not wait for a broker that is away
			return fmt.Errorf("receive from %s as %s: %w", src.sub.Channel.Name, src.sub.Group, err)
		}
		return nil
	})
}

func (r *run) closeSources(ctx context.Context) error {
	return eachSource(slices.Concat(r.sources, r.standing(), r.lookout.sources()), func(src *source) error {
		if err := src.close(ctx); err != nil && r.s.conn.Classify(err) != driver.Closed {
			return fmt.Errorf("close receiver of %s: %w", src.sub.Channel.Name, err)
		}
		return nil
	})
}

// removeTimeout bounds how long the end of Run waits for groups to be removed.
const removeTimeout = 3 * time.Second

// removeGroups removes the groups of broadcast subscriptions, which are this
// instance's own. Those that it cannot remove in time expire by themselves.
func (r *run) removeGroups(ctx context.Context) {
	remover, ok := r.s.conn.(driver.Remover)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	_ = eachSource(slices.Concat(r.sources, r.standing()), func(src *source) error { // no error: a group that stays expires
		if src.resume {
			if err := remover.RemoveGroup(ctx, src.sub.Channel.Name, src.sub.GroupName()); err != nil && r.s.conn.Classify(err) != driver.NotFound {
				r.s.opts.Logger.Debug("group of a broadcast subscription was not removed", "service", r.s.name,
					"channel", src.sub.Channel.Name, "group", src.sub.Group, "error", err)
			}
		}
		return nil
	})
}

// sideBySide is how many receivers are opened or closed at once: each costs a
// round trip or more.
const sideBySide = 16

// eachSource calls f for every source, some at once, and returns the errors but
// for those that only say that another's came first.
func eachSource(all []*source, f func(*source) error) error {
	errs := make([]error, len(all))
	slots := make(chan struct{}, sideBySide)
	var wg sync.WaitGroup
	for i, src := range all {
		slots <- struct{}{}
		wg.Go(func() {
			errs[i] = f(src)
			<-slots
		})
	}
	wg.Wait()
	first := slices.IndexFunc(errs, func(err error) bool { return err != nil && !errors.Is(err, context.Canceled) })
	if first < 0 {
		return errors.Join(errs...)
	}
	return errors.Join(slices.DeleteFunc(errs, func(err error) bool { return errors.Is(err, context.Canceled) })...)
}

// trim ends workers that have had nothing to do for a while, until ctx ends.
func (r *run) trim(ctx context.Context) {
	tick := time.NewTicker(trimAfter)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		for _, b := range r.consumers {
			b.sched.trim()
			b.sched.tick()
		}
	}
}

// trimAfter is for how long a worker waits for more, at least.
const trimAfter = 10 * time.Second

// ignoreCancel is nil for an error that only says that ctx has ended.
func ignoreCancel(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}
