package natsbus

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// mend makes the sources right again after the link was away, or after something
// was lost on its way: what was asked for is asked for anew, and what the server
// believes to have delivered and never arrived is asked back, so that it comes
// before anything later.
func (r *receiver) mend(ctx context.Context) error {
	epoch := r.c.epoch()
	r.mu.Lock()
	defer r.mu.Unlock()
	another := epoch != r.epoch
	for _, src := range r.sources {
		if src.leaving {
			continue
		}
		if another {
			src.rewinds, src.foreign = 0, false
		}
		var err error
		switch {
		case another || src.gap:
			err = r.attach(ctx, src, nil)
		case src.short:
			err = r.recall(ctx, src, nil, src.got)
		}
		if err != nil {
			return r.explainRewind(src, err)
		}
	}
	r.epoch = epoch
	return nil
}

// attach begins to receive from a source, in order, with what was handed out
// before and is not in hand. info is what the server says of its consumer, if
// that is known already.
func (r *receiver) attach(ctx context.Context, src *source, info *jetstream.ConsumerInfo) error {
	kept, err := r.renew(src)
	if err != nil {
		return err
	}
	if src.owned && src.pin == "" {
		src.gap = false
		return nil // stand in line
	}
	if r.roll != nil && !src.owned {
		alone, err := r.roll.alone(ctx)
		if err != nil {
			return err
		}
		if src.gap {
			src.rewinds++
		}
		if src.rewinds > maxRewinds && !src.foreign {
			src.foreign = true
			r.c.opts.Logger.Warn("natsbus: a group has receivers that know nothing of Dovetail: there is no order among them",
				"channel", r.s.Channel.Name, "group", r.s.Group)
		}
		if !alone || src.foreign {
			r.collected(src, kept)
			src.gap = false
			return nil // others may hold what is missing here; it comes when its lease ends
		}
	}
	return r.recall(ctx, src, info, kept)
}

// recall has the server deliver again what it counts as delivered and is neither
// in hand nor among kept. Nothing is handed out until all of that has come,
// since it comes in any order: while others stand in line for a partition, the
// server moves what waits to be delivered again to the end of its queue, one by
// one, whenever it has no request of the owner.
func (r *receiver) recall(ctx context.Context, src *source, info *jetstream.ConsumerInfo, kept map[uint64]*nats.Msg) (err error) {
	if info == nil || info.NumAckPending > 0 {
		if info, err = r.look(ctx, src); err != nil {
			return err
		}
	}
	if src.owned && pinOf(info) != src.pin {
		r.lose(src)
		return nil
	}
	first, last := info.AckFloor.Stream+1, info.Delivered.Stream
	skip := r.delays.within(first, last, time.Now())
	for rc := src.held.first; rc != nil; rc = rc.next {
		skip[rc.seq] = true
	}
	for seq := range src.aside {
		skip[seq] = true
	}
	src.skip, src.got, src.last, src.upto = skip, kept, info.Delivered.Consumer, last
	src.want = info.NumAckPending - len(skip)
	if len(kept) < src.want {
		if err := r.askBack(ctx, src, first, last, info.Delivered.Consumer); err != nil {
			return err
		}
	}
	src.gap, src.short, src.joining = false, false, len(kept) < src.want
	if !src.joining {
		r.collected(src, kept)
	}
	return nil
}

func (r *receiver) look(ctx context.Context, src *source) (*jetstream.ConsumerInfo, error) {
	ctx, cancel := context.WithTimeout(ctx, r.c.lookTime())
	defer cancel()
	return r.c.consumerInfo(ctx, r.stream, src.consumer)
}

// collect takes in one of the messages that are asked back. What is new comes
// behind all of those that are still unsettled.
func (r *receiver) collect(src *source, m *nats.Msg) {
	p, ok := placeOf(m.Reply)
	if !ok {
		return
	}
	if p.consumer != src.last+1 && r.exclusive(src) {
		src.gap = true // one was lost on its way again
		return
	}
	src.last = p.consumer
	src.took(m)
	src.heard = time.Now()
	if src.skip[p.stream] {
		if rc := src.held.find(p.stream); rc != nil {
			rc.reply = m.Reply
		}
		return
	}
	src.got[p.stream] = m
	if p.stream > src.upto || len(src.got) >= src.want {
		r.collected(src, src.got)
	}
}

// collected puts what has been collected before what waits to be handed out.
func (r *receiver) collected(src *source, got map[uint64]*nats.Msg) {
	seqs := slices.Sorted(maps.Keys(got))
	front := make([]*nats.Msg, len(seqs), len(seqs)+len(r.backlog))
	for i, seq := range seqs {
		front[i] = got[seq]
		front[i].Sub = src.sub
		src.bytes += sizeOf(front[i])
	}
	r.backlog = append(front, r.backlog...)
	src.kept = len(seqs)
	src.credit += len(seqs) // each takes one when it is handed out
	src.joining, src.short, src.got, src.skip = false, false, nil, nil
}

// renew gives a source a new inbox: requests of the time before are answered no
// more. It returns what arrived in order, for the first time, and is not handed out
// yet; the rest is dropped, and is asked back with what was lost before it.
func (r *receiver) renew(src *source) (kept map[uint64]*nats.Msg, err error) {
	old := src.sub
	if old != nil {
		_ = old.Unsubscribe()
	}
	r.gather()
	src.reply = r.c.nc.NewInbox()
	if src.sub, err = r.c.nc.ChanSubscribe(src.reply, r.in); err != nil {
		return nil, err
	}
	kept = src.got
	if kept == nil {
		kept = map[uint64]*nats.Msg{}
	}
	next, left := src.last+1, r.backlog[:0]
	for _, m := range r.backlog {
		if m.Sub != old {
			left = append(left, m)
			continue
		}
		p, ok := placeOf(m.Reply)
		switch {
		case !ok || src.owned && src.pin == "":
		case src.kept > 0:
			src.kept--
			kept[p.stream] = m
		case p.consumer == next:
			next++
			// A copy of what is in hand, or was settled meanwhile, would be counted
			// in place of one that was lost.
			if p.attempt == 1 {
				kept[p.stream] = m
			}
		case !r.exclusive(src):
			kept[p.stream] = m
		}
	}
	clear(r.backlog[len(left):])
	r.backlog = left
	src.credit, src.bytes, src.larger, src.kept, src.joining, src.short, src.got = 0, 0, 0, 0, false, false, nil
	return kept, nil
}

func (r *receiver) explainRewind(src *source, err error) error {
	if isGone(err) {
		return r.explain(src, errConsumerGone)
	}
	return translate("receive as "+r.s.Group+" of channel "+r.s.Channel.Name, err)
}

// maxRecall bounds how many sequences are asked back one by one.
const maxRecall = 1 << 20

// askBack asks the server to deliver again what it may count as unsettled and has
// not come. The server passes over what it does not, as what is settled or of
// other partitions. Its count of attempts goes on, and what was settled stays so,
// which both would not be with a reset of the consumer (nats-server 2.14).
func (r *receiver) askBack(ctx context.Context, src *source, first, last, delivered uint64) error {
	if last-first >= maxRecall {
		r.c.opts.Logger.Warn("natsbus: too much is unsettled to be asked back; it comes when its lease ends",
			"channel", r.s.Channel.Name, "group", r.s.Group, "unsettled", src.want)
		src.want = 0
		return nil
	}
	prefix := "$JS.ACK." + r.stream + "." + src.consumer + ".1."
	suffix := "." + strconv.FormatUint(delivered, 10) + ".1.0"
	var asked []string
	for seq := first; seq <= last; seq++ {
		if !src.skip[seq] && src.got[seq] == nil {
			asked = append(asked, prefix+strconv.FormatUint(seq, 10)+suffix)
		}
	}
	return r.nak(ctx, asked)
}

// nak asks the server to deliver again, in this order, and waits until it has
// taken that in.
func (r *receiver) nak(ctx context.Context, subjects []string) error {
	if len(subjects) == 0 {
		return nil
	}
	link := r.c.watchLink()
	signal := make(signalFlight)
	token := r.c.acks.open(signal)
	defer r.c.acks.close(token)
	final := len(subjects) - 1
	for _, subject := range subjects[:final] {
		if err := r.c.nc.Publish(subject, ackNak); err != nil {
			return err
		}
	}
	// The last wants an answer: then all have been taken in.
	if err := r.c.nc.PublishRequest(subjects[final], r.c.acks.prefix+token, ackNak); err != nil {
		return err
	}
	ctx, cancel := r.c.deadline(ctx)
	defer cancel()
	for {
		select {
		case <-signal:
			return nil
		case <-link.event:
			if err := link.ended("ask back what was lost", "$JS.ACK."+r.stream+"."); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// exclusive reports whether all deliveries of a source's consumer come here, so
// that one that does not was lost.
func (r *receiver) exclusive(src *source) bool {
	switch {
	case src.owned:
		return src.pin != ""
	case r.roll == nil:
		return true // a broadcast
	}
	return !src.foreign && !r.roll.others()
}

// overtakes reports whether m may be ahead of deliveries that were lost, which
// mend then asks back.
func (r *receiver) overtakes(src *source, m *nats.Msg) bool {
	p, ok := placeOf(m.Reply)
	switch {
	case !ok:
		return false
	case src.kept > 0:
		src.kept--
		return false
	case p.consumer == src.last+1, !r.exclusive(src):
		return false
	}
	src.gap = true
	return true
}

func (r *receiver) outOfOrder() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, src := range r.sources {
		if src.gap || src.short {
			return true
		}
	}
	return false
}
