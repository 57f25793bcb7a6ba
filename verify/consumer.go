package verify

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/outbox"
)

var errWished = errors.New("fails as it was asked to")

// consume has the service write down the effect of each event, once.
func (p *process) consume() {
	one, many := p.db.handler(p.svc, outbox.Options{NoRelay: true}, func(ctx context.Context, w work, n Note) error {
		e := Effect{Group: p.Group, Key: n.Key, ID: dovetail.Current(ctx).Message.ID, N: n.N, Sum: n.Check(), At: time.Now()}
		if e.Sum != n.Sum {
			e.Sum = ^n.Check() // what arrived was damaged: no sum that was published is this one
		}
		if len(n.Key) > 100 || len(e.ID) > 100 {
			return dovetail.Permanent(errors.New("key or id is longer than any that was published"))
		}
		if err := w.did(ctx, e); err != nil {
			return err
		}
		if rand.Float64() < p.Failures {
			return errWished // and what it has done is undone
		}
		return nil
	})
	var opts []dovetail.SubscribeOption
	if p.Ordered {
		opts = append(opts, dovetail.Ordered())
	}
	if p.Batch {
		p.event().SubscribeBatch(p.svc, many, opts...)
	} else {
		p.event().Subscribe(p.svc, one, opts...)
	}
}
