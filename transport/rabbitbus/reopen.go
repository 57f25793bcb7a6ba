package rabbitbus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// zombieWait is how often the server is asked whether it noticed that a link
// was lost.
const zombieWait = 100 * time.Millisecond

// ownWait is the same for a consumer that we ended.
const ownWait = 2 * time.Millisecond

// resync opens sources again whose link or channel has ended. What they had handed
// out is the server's again, and comes again. A wait above zero says when to
// look again.
func (r *receiver) resync(ctx context.Context) (wait time.Duration, err error) {
	if err := r.adapt(ctx); err != nil {
		return 0, err
	}
	r.mu.Lock()
	now := time.Now()
	var down []*source
	for _, src := range r.sources {
		switch {
		case !src.isDown() || src.leaving:
		case now.Before(src.later):
			wait = sooner(wait, src.later.Sub(now))
		default:
			down = append(down, src)
		}
	}
	for _, src := range down {
		switch late := r.tooLong(src); {
		case late != nil:
			err = late
		case src.ch != nil && src.session != nil && !src.session.isLost():
			r.c.opts.Logger.Warn("rabbitbus: the server ended a consumer", "queue", src.queue, "error", src.down)
		}
		if r.forget(src) && err == nil {
			err = fmt.Errorf("rabbitbus: receive as %s of channel %s: %w: the link was lost, and with it what was set aside", r.s.Group, r.s.Channel.Name, driver.ErrRetryable)
		}
	}
	r.mu.Unlock()
	if len(down) == 0 || err != nil {
		return wait, err
	}
	sess, err := r.link.session()
	if err != nil {
		return 0, err
	}
	if r.st.transient {
		if err := r.c.declare(ctx, r.st); err != nil {
			return 0, translate("receive from "+r.s.Channel.Name, err)
		}
		if r.st.hasHome() {
			r.mu.Lock()
			down[0].queue = r.st.homeNow()
			r.mu.Unlock()
		}
		if r.s.Channel.Kind == driver.PublishSubscribe && !r.s.Broadcast {
			if err := r.c.provisionGroup(ctx, r.s); err != nil {
				return 0, err
			}
		}
	}
	errs := r.openAgain(ctx, sess, down)
	for i, src := range down {
		switch err := errs[i]; {
		case err == nil:
		case errors.Is(err, errZombie) && src.ours:
			wait = sooner(wait, ownWait)
		case errors.Is(err, errZombie):
			wait = sooner(wait, zombieWait)
		case errors.Is(err, errNoAnswer) && r.anyUp():
			wait = sooner(wait, src.slow)
		default:
			return 0, r.explain(err)
		}
	}
	return wait, nil
}

// sooner is the shorter of two waits, of which 0 is none.
func sooner(a, b time.Duration) time.Duration {
	if a == 0 {
		return b
	}
	return min(a, b)
}

// openAgain opens sources, all at once. The leader of a queue may be on a node that
// does not answer, which is no reason to let the others wait for long: such a source
// is tried for a second, then for longer, and rests for as long in between.
func (r *receiver) openAgain(ctx context.Context, sess *session, down []*source) []error {
	errs := make([]error, len(down))
	var wg sync.WaitGroup
	for i, src := range down {
		src.slow = min(max(time.Second, 2*src.slow), r.c.opts.Timeout)
		wg.Go(func() {
			short, cancel := context.WithTimeoutCause(ctx, src.slow, errNoAnswer)
			defer cancel()
			errs[i] = src.open(short, sess)
		})
	}
	wg.Wait()
	for i, src := range down {
		if errors.Is(errs[i], errNoAnswer) {
			src.later = time.Now().Add(src.slow)
		} else {
			src.slow = 0
		}
	}
	return errs
}

// anyUp reports whether something can come from a source.
func (r *receiver) anyUp() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.sources, func(src *source) bool { return !src.isDown() })
}

// tooLong is the error that tells of a source whose channel the server ended
// because a message was in hand for longer than its consumer_timeout, or nil.
func (r *receiver) tooLong(src *source) error {
	if src.ch == nil || !isAckTimeout(src.down) {
		return nil
	}
	return fmt.Errorf("rabbitbus: receive as %s of channel %s: %w: a message was in hand for longer than the server's consumer_timeout, and the server "+
		"delivers all that this receiver had of queue %s again: shorten the handler or its retries, or raise consumer_timeout, and tell it by ack-timeout in the URL (it is %v): %w",
		r.s.Group, r.s.Channel.Name, driver.ErrRetryable, src.queue, r.c.opts.AckTimeout, withoutKind{src.down})
}

// forget drops what a source had that is the server's again. It reports whether
// something of it was set aside.
func (r *receiver) forget(src *source) (aside bool) {
	if src.ch == nil {
		return false
	}
	for rc := src.held.first; rc != nil; rc = src.held.first {
		rc.lost = true
		src.held.remove(rc) // whoever holds one delivery holds no other
		if rc.aside {
			aside = true
			continue
		}
		r.held--
		r.bytes -= rc.size
	}
	src.arrived = nil
	src.ch = nil
	// The server closes a connection from which it hears nothing for two
	// heartbeats; until then what it had is not there for us.
	src.grace = time.Now().Add(2*r.c.opts.Heartbeat + time.Second)
	return aside
}

// explain turns what opening a source met into the error that Receive returns.
func (r *receiver) explain(err error) error {
	name := "receive as " + r.s.Group + " of channel " + r.s.Channel.Name
	if isCode(err, amqp.NotFound) {
		r.c.chans.drop(r.s.Channel.Name)
		if r.s.Broadcast {
			return fmt.Errorf("rabbitbus: %s: %w", name, r.c.gone())
		}
		return fmt.Errorf("rabbitbus: %s: its queue is gone: provision the subscription again: %w: %w", name, driver.ErrNotFound, err)
	}
	return translate(name, err)
}
