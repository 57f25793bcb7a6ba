package verify

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/dovetail-go/dovetail/outbox"
)

var errWished = errors.New("fails as it was asked to")

// handling makes handlers of what is to be done once for each message, one at a
// time or several.
type handling func(f func(context.Context, work, Note) error) (one func(context.Context, Note) error, many func(context.Context, []Note) []error)

// consumption is what a path's handlers are registered with.
type consumption struct {
	handlers handling
	events   []dovetail.Event[Note]
	opts     []dovetail.SubscribeOption
}

// consume has the service write down the effect of each event, once.
func (p *process) consume() {
	handlers := p.db.handlers(p.svc, outbox.Options{NoRelay: true})
	var opts []dovetail.SubscribeOption
	if p.Ordered {
		opts = append(opts, dovetail.Ordered())
	}
	if !p.Alone {
		one, many := handlers(p.effect(p.Group, nil))
		if p.Batch {
			p.event().SubscribeBatch(p.svc, many, opts...)
		} else {
			p.event().Subscribe(p.svc, one, opts...)
		}
	}
	for _, name := range p.Paths {
		c := consumption{handlers, p.events(name), nil}
		walk := pathOf(name)
		if walk.ordered {
			c.opts = append(c.opts, opts...)
		}
		if walk.consume != nil {
			walk.consume(p, c)
			continue
		}
		one, _ := handlers(p.effect(name, nil))
		c.events[0].Subscribe(p.svc, one, c.opts...)
	}
}

// effect returns what writes an event's effect down for a group, unless may
// returns an error.
func (p *process) effect(group string, may func(context.Context, Note) error) func(context.Context, work, Note) error {
	return func(ctx context.Context, w work, n Note) error {
		if may != nil {
			if err := may(ctx, n); err != nil {
				return err
			}
		}
		e := Effect{Group: group, Key: n.Key, ID: dovetail.DeliveryFromContext(ctx).Message.ID, N: n.N, Sum: n.Check(), At: time.Now(), Who: p.who()}
		if group == foreign {
			e.ID = foreignID(n) // it came without one
		}
		if e.Sum != n.Sum {
			e.Sum = ^n.Check() // what arrived was damaged: no sum that was published is this one
		}
		if len(n.Key) > 100 || len(e.ID) > 100 {
			return dovetail.Permanent(errors.New("key or id is longer than any that was published"))
		}
		if err := w.did(ctx, e); err != nil {
			return err
		}
		if group != outage && rand.Float64() < p.Failures { // some messages would use up outage's short policy
			return errWished // and what it has done is undone
		}
		return nil
	}
}

// who names the process among all lives of all processes.
func (p *process) who() string { return fmt.Sprintf("%s/%d", p.Instance, p.Life) }

// slowly makes a handler take seconds now and then for one key. It waits
// outside of any transaction, as for a service that answers late.
func slowly(next dovetail.Handler) dovetail.Handler {
	return func(ctx context.Context, in *dovetail.Delivery) error {
		if in.Message.Key == slowKey && rand.IntN(4) == 0 {
			backoff.Sleep(ctx, time.Second+time.Duration(rand.Int64N(int64(2*time.Second))))
		}
		return next(ctx, in)
	}
}
