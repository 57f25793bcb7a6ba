package natsbus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// A partition has a consumer of its own in each group, whose server delivers to
// one client at a time: that whose requests carry the pin (priority policy
// "pinned_client", nats-server 2.11). Who has none stands in line with a request
// for one message; when a partition has no owner, the server gives the next
// message, with a new pin, to one of those. It asks back what the owner before
// had not settled, and takes that first. A request with a pin that is over is
// refused, so that a former owner gets nothing more whatever it believes.
//
// A pin ends when the server has not heard a request with it for
// Options.OwnerTTL, or when its owner gives it up.

// ownerGroup names the one priority group of a consumer.
const ownerGroup = "owner"

// pinHeader is added by the server to what it delivers to an owner.
const pinHeader = "Nats-Pin-Id"

// shareEvery is how often an owner of partitions looks whether others have
// fewer, and tells how many it has.
const shareEvery = time.Second

// A partitioned is a receiver of a channel with partitions.
type partitioned struct {
	*receiver
	ended chan struct{} // closed when tend has ended
}

var _ driver.Revoker = (*partitioned)(nil)

// share begins to look after the partitions of r.
func share(r *receiver) *partitioned {
	p := &partitioned{receiver: r, ended: make(chan struct{})}
	go p.tend()
	return p
}

// tend keeps the pins, and gives up what is more than a share, until the
// receiver is closed.
func (p *partitioned) tend() {
	defer close(p.ended)
	ctx, cancel := p.untilClosing()
	defer cancel()
	token := p.c.acks.open(keepFlight{p.receiver})
	defer p.c.acks.close(token)
	every := min(shareEvery, p.c.opts.OwnerTTL/4)
	shared := time.Now()
	for {
		pause := time.NewTimer(every*3/4 + rand.N(every/2))
		select {
		case <-pause.C:
		case <-p.closing:
			pause.Stop()
			return
		}
		if p.c.ready() != nil {
			continue
		}
		now := time.Now()
		p.keep(now, p.c.acks.prefix+token)
		p.kick() // who may stand in line again does so
		p.adopt(ctx, now)
		if now.Sub(shared) >= shareEvery*3/4 {
			shared = now
			p.rebalance(ctx, now)
		}
	}
}

// untilClosing returns a context that ends when Close begins; cancel waits until
// nothing watches for that any more.
func (r *receiver) untilClosing() (ctx context.Context, cancel func()) {
	ctx, end := context.WithCancel(context.Background())
	var watch sync.WaitGroup
	watch.Go(func() {
		select {
		case <-r.closing:
			end()
		case <-ctx.Done():
		}
	})
	return ctx, func() { end(); watch.Wait() }
}

// keep has the server know that the owner is still there, though it asks for
// nothing. The request is one that is never served: no message is that small.
func (p *partitioned) keep(now time.Time, reply string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.touch(now)
	for _, src := range p.sources {
		if src.pin == "" || now.Sub(src.renewed) < p.c.opts.OwnerTTL/4 {
			continue
		}
		body, err := json.Marshal(pullRequest{Batch: 1, MaxBytes: 1, NoWait: true, Group: ownerGroup, Pin: src.pin})
		if err != nil || p.c.nc.PublishRequest(src.subject, reply+"."+src.pin, body) != nil {
			return // the link is away
		}
		src.renewed = now
	}
}

// A keepFlight hears whether a pin is over.
type keepFlight struct{ r *receiver }

func (f keepFlight) answer(pin string, m *nats.Msg) {
	if m.Header.Get("Status") != "423" {
		return
	}
	f.r.overMu.Lock()
	f.r.over = append(f.r.over, pin)
	f.r.overMu.Unlock()
	f.r.kick()
}

// lapse loses the partitions whose pins were heard to be over.
func (r *receiver) lapse() {
	r.overMu.Lock()
	over := r.over
	r.over = nil
	r.overMu.Unlock()
	for _, pin := range over {
		for _, src := range r.sources {
			if src.pin == pin && !src.leaving {
				r.lose(src)
			}
		}
	}
}

// adopt looks for partitions that have no owner and get none because nothing new
// is sent to them: what their last owner had not settled goes to who is next in
// line.
func (p *partitioned) adopt(ctx context.Context, now time.Time) {
	var orphans []*source
	p.mu.Lock()
	for _, src := range p.sources {
		if src.pin == "" && !src.leaving && now.Sub(src.looked) > p.c.opts.OwnerTTL {
			src.looked = now
			orphans = append(orphans, src)
		}
	}
	p.mu.Unlock()
	for _, src := range orphans {
		info, err := p.look(ctx, src)
		if err == nil && pinOf(info) == "" {
			err = p.redeliver(ctx, src, info)
		}
		if err != nil {
			return // another time
		}
	}
}

// redeliver has the server deliver the first unsettled message of a partition again:
// who becomes the owner by it asks the rest back.
func (r *receiver) redeliver(ctx context.Context, src *source, info *jetstream.ConsumerInfo) error {
	if info.NumAckPending == 0 {
		return nil
	}
	ctx, cancel := r.c.deadline(ctx)
	defer cancel()
	stream, err := r.c.js.Stream(ctx, r.stream)
	if err != nil {
		return err
	}
	first, err := stream.GetMsg(ctx, info.AckFloor.Stream+1, jetstream.WithGetMsgSubject(partitionSubject(r.s.Channel.Name, src.partition)))
	if errors.Is(err, jetstream.ErrMsgNotFound) || err == nil && first.Sequence > info.Delivered.Stream {
		return nil // settled meanwhile
	}
	if err != nil {
		return err
	}
	return r.nak(ctx, []string{fmt.Sprintf("$JS.ACK.%s.%s.1.%d.%d.1.0", r.stream, src.consumer, first.Sequence, info.Delivered.Consumer)})
}

// rebalance tells the others how many partitions are ours, and gives one up if
// another has at least two fewer: one of which nothing is in hand, where there
// is one. A partition that is being given up, and waits for a slow handler, does
// not keep those from moving.
func (p *partitioned) rebalance(ctx context.Context, now time.Time) {
	p.mu.Lock()
	var owned, free []*source
	leaving := false
	for _, src := range p.sources {
		leaving = leaving || src.leaving
		if src.pin != "" && !src.leaving && !src.gap && !src.joining {
			owned = append(owned, src)
			if src.held.n == 0 && len(src.aside) == 0 {
				free = append(free, src)
			}
		}
	}
	p.members.say(len(owned))
	least, ok := p.members.leastLoaded(now)
	idle := len(free) > 0
	if leaving && !idle || !ok || least > len(owned)-2 || p.closed {
		p.mu.Unlock()
		return
	}
	src := owned[rand.IntN(len(owned))]
	if idle {
		src = free[rand.IntN(len(free))]
	}
	src.leaving = true
	p.retire(src)
	if !idle {
		p.revoked <- []int{src.partition} // there is room for all
	}
	p.mu.Unlock()
	if idle {
		_ = p.Release(ctx, []int{src.partition}) // if the link is away, the pin ends by itself
	}
}

// retire gives up a source's inbox and what has come to it.
func (r *receiver) retire(src *source) {
	if src.sub != nil {
		_ = src.sub.Unsubscribe()
	}
	r.gather()
	r.drop(src)
	src.sub, src.gap = nil, false
}

// drop forgets what has come to a source's inbox.
func (r *receiver) drop(src *source) {
	left := r.backlog[:0]
	for _, m := range r.backlog {
		if m.Sub != src.sub {
			left = append(left, m)
		}
	}
	clear(r.backlog[len(left):])
	r.backlog, src.credit, src.bytes, src.larger, src.kept = left, 0, 0, 0, 0
	src.joining, src.short, src.got, src.skip = false, false, nil, nil
}

// won takes note that the server has made us the owner of a partition by
// delivering m. Others may have to come before it.
func (r *receiver) won(src *source, m *nats.Msg) bool {
	if !src.owned || src.pin != "" {
		return false
	}
	p, ok := placeOf(m.Reply)
	if src.pin = m.Header.Get(pinHeader); !ok || src.pin == "" {
		return false
	}
	src.got, src.won, src.gap, src.renewed = map[uint64]*nats.Msg{p.stream: m}, p.stream, true, time.Now()
	return true
}

// lose takes note that a partition is no longer ours. What is in hand of it the
// core must stop first.
func (r *receiver) lose(src *source) {
	src.pin = ""
	r.retire(src)
	if src.held.n > 0 || len(src.aside) > 0 {
		src.leaving = true
		r.revoked <- []int{src.partition} // there is room for all
		return
	}
	if _, err := r.renew(src); err != nil {
		src.gap = true // resync tries again
	}
}

// ours reports whether a partition with that pin waits for us.
func (r *receiver) ours(src *source, pin string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return pin == "" || pin == src.pin
}

func pinOf(info *jetstream.ConsumerInfo) string {
	if len(info.PriorityGroups) == 0 {
		return ""
	}
	return info.PriorityGroups[0].PinnedClientID
}

// Revoked delivers each partition that is given up or was lost.
func (p *partitioned) Revoked() <-chan []int { return p.revoked }

// Release gives partitions up: what is not settled goes to the next owner, and
// this receiver stands in line again.
func (p *partitioned) Release(ctx context.Context, partitions []int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil // Close has given back all
	}
	var errs []error
	for _, k := range partitions {
		if k < 0 || k >= len(p.sources) || !p.sources[k].leaving {
			continue
		}
		src := p.sources[k]
		errs = append(errs, p.yield(ctx, src))
		src.leaving, src.after = false, time.Now().Add(shareEvery)
		if _, err := p.renew(src); err != nil {
			src.gap = true
		}
	}
	p.kick()
	return translate("release partitions of "+p.s.Channel.Name, errors.Join(errs...))
}

// yield forgets what is in hand of a partition and, if it is ours, has the
// server deliver that to another.
func (r *receiver) yield(ctx context.Context, src *source) error {
	for rc := src.held.first; rc != nil; rc = rc.next {
		rc.drop()
	}
	src.held, src.aside = receipts{}, nil
	pin := src.pin
	src.pin = ""
	if pin == "" {
		return nil
	}
	if !r.c.nc.IsConnected() {
		return nil // the pin ends by itself
	}
	ctx, cancel := r.c.deadline(ctx)
	defer cancel()
	info, err := r.look(ctx, src)
	if err != nil || pinOf(info) != pin {
		return err
	}
	if err := r.redeliver(ctx, src, info); err != nil {
		return err
	}
	answer, err := r.c.nc.RequestWithContext(ctx, "$JS.API.CONSUMER.UNPIN."+r.stream+"."+src.consumer, []byte(`{"group":"`+ownerGroup+`"}`))
	if err != nil {
		return err
	}
	var reply pubAck
	if err := json.Unmarshal(answer.Data, &reply); err != nil {
		return fmt.Errorf("answer of the server cannot be read: %w", err)
	}
	if reply.Error != nil {
		return fmt.Errorf("the server refused: %s (%d)", reply.Error.Description, reply.Error.ErrCode)
	}
	return nil
}

// Close gives back all partitions.
func (p *partitioned) Close(ctx context.Context) error {
	err := p.receiver.Close(ctx)
	select {
	case <-p.ended: // at once, or when a call to the server has had its time
	case <-ctx.Done():
	}
	return err
}
