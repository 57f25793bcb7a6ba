package rabbitbus

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// shareEvery is how often an owner of partitions looks whether others wait.
const shareEvery = time.Second

// A partitioned is a receiver of a channel with partitions. Each of their
// queues has one active consumer, the owner, and the server makes the longest
// waiting one the next. It never takes a partition from an owner that lives, so
// that an instance that came first would keep them all: one that has more than
// its share gives the rest up, one by one, and stands in line again.
type partitioned struct {
	*receiver
	revoked chan []int
	ended   chan struct{} // closed when balance has ended

	present *amqp.Channel // by which the others know of us; balance's own
	told    bool          // that this may not be; balance's own
}

var _ driver.Revoker = (*partitioned)(nil)

// share makes r give up what is more than its share.
func share(r *receiver) *partitioned {
	p := &partitioned{receiver: r, revoked: make(chan []int, len(r.sources)), ended: make(chan struct{})}
	go p.balance()
	return p
}

// balance looks now and then, until the receiver is closed.
func (p *partitioned) balance() {
	defer close(p.ended)
	defer close(p.revoked)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	defer func() {
		if p.present != nil {
			go func() { _ = p.present.Close() }() // ends with the connection at the latest
		}
	}()
	for {
		_, _ = p.members(ctx) // from the beginning, for the others
		pause := time.NewTimer(shareEvery*3/4 + rand.N(shareEvery/2))
		select {
		case <-pause.C:
		case <-p.closing:
			pause.Stop()
			return
		}
		if k, ok := p.excess(ctx); ok {
			p.revoked <- []int{k} // there is room for all
		}
	}
}

// excess picks a partition to be given up, if there is one.
func (p *partitioned) excess(ctx context.Context) (partition int, ok bool) {
	p.mu.Lock()
	var owned []*source
	for _, src := range p.sources {
		switch {
		case src.leaving:
			p.mu.Unlock()
			return 0, false // one at a time
		case src.owner && !src.isDown():
			owned = append(owned, src)
		}
	}
	p.mu.Unlock()
	if len(owned) < 2 {
		return 0, false
	}
	n, err := p.members(ctx)
	if isCode(err, amqp.AccessRefused) && !p.told {
		p.told = true
		p.c.opts.Logger.Warn("rabbitbus: partitions are not shared: this user may not use the queue by which receivers count each other", "error", err)
	}
	if err != nil || n < 2 || len(owned) <= (len(p.sources)+n-1)/n {
		return 0, false
	}
	src := owned[len(owned)-1]
	p.mu.Lock()
	defer p.mu.Unlock()
	if src.isDown() {
		return 0, false
	}
	src.leaving = true // nothing more is handed out
	return src.partition, true
}

// members counts the receivers of the group. A quorum queue tells of its active
// consumer alone, so each receiver also consumes a queue in which nothing ever
// is, and whose consumers are counted. It is a quorum queue, which outlives each
// node; one of an earlier version is taken as it is.
func (p *partitioned) members(ctx context.Context) (int, error) {
	s, err := p.link.session()
	if err != nil {
		return 0, err
	}
	name := groupBase(p.s.Channel, p.s.Group) + membersMark
	var q amqp.Queue
	present := p.present
	err = s.call(ctx, func() (err error) {
		if present == nil || present.IsClosed() {
			if present, err = p.c.presentOn(s, name); err != nil {
				return err
			}
		}
		q, err = present.QueueDeclarePassive(name, true, false, false, false, nil)
		return err
	}, func() { _ = present.Close() })
	if err != nil {
		p.present = nil // the next is another, and this one ends, late or with the connection
		return 0, err
	}
	p.present = present
	return q.Consumers, nil
}

// presentOn begins to consume the queue of that name, and makes it where it is not
// there.
func (c *Conn) presentOn(s *session, name string) (*amqp.Channel, error) {
	kinds := []string{amqp.QueueTypeQuorum, amqp.QueueTypeClassic}
	if c.opts.Classic {
		kinds = kinds[1:]
	}
	for i, kind := range kinds {
		ch, err := s.conn.Channel()
		if err != nil {
			return nil, err
		}
		_, err = ch.QueueDeclare(name, true, false, false, false, amqp.Table{amqp.QueueTypeArg: kind, amqp.QueueTTLArg: int32(transientExpire)})
		if isCode(err, amqp.PreconditionFailed) && i+1 < len(kinds) {
			continue // the server has closed the channel
		}
		if err == nil {
			_, err = ch.Consume(name, "", true, false, false, false, nil)
		}
		return ch, err
	}
	return nil, amqp.ErrClosed // not reached: the last kind returns
}

// Revoked delivers each partition that is to be given up.
func (p *partitioned) Revoked() <-chan []int { return p.revoked }

// Release gives partitions up: what is not settled goes to the next owner, and
// this receiver waits for its turn again.
func (p *partitioned) Release(ctx context.Context, partitions []int) error {
	var errs []error
	for _, k := range partitions {
		if k < 0 || k >= len(p.sources) {
			continue
		}
		src := p.sources[k]
		p.mu.Lock()
		leaving := src.leaving
		p.mu.Unlock()
		if !leaving {
			continue
		}
		errs = append(errs, src.stop(ctx))
		p.mu.Lock()
		p.forget(src)
		src.leaving, src.owner = false, false
		p.mu.Unlock()
		p.kick()
	}
	return translate("release partitions of "+p.s.Channel.Name, errors.Join(errs...))
}

// Close stops receiving and gives back what is unsettled.
func (p *partitioned) Close(ctx context.Context) error {
	err := p.receiver.Close(ctx)
	select {
	case <-p.ended: // at once, or when a call to the server has had its time
	case <-ctx.Done():
	}
	return err
}
