package natsbus

import (
	"context"
	"maps"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// resync makes the sources right again after the link was away, or after something
// was lost on its way: what was asked for is asked for again, and what the server
// believes to have delivered and never arrived is asked back, so that it comes
// before anything later.
func (r *receiver) resync(ctx context.Context) error {
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
		case src.short && !r.exclusive(src):
			r.collected(src, src.got) // others may have the rest in hand
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
	if r.members != nil && !src.owned {
		alone, ghost, err := r.members.alone(ctx)
		if err != nil {
			return err
		}
		if src.gap && !ghost { // whose requests take messages, until they end
			src.rewinds++
		}
		if src.rewinds > maxRewinds && !src.foreign {
			src.foreign = true
			r.c.opts.Logger.Warn("natsbus: a group has receivers that know nothing of Dovetail: there is no order among them",
				"channel", r.s.Channel.Name, "group", r.s.Group)
		}
		if !alone || src.foreign {
			r.collected(src, src.got)
			src.gap = false
			return nil // others may hold what is missing here; it comes when its lease ends
		}
	}
	return r.recall(ctx, src, info, kept)
}

// renew gives a source a new inbox: requests of the time before are answered no
// more. What has come to the last inbox, and is not handed out yet, is in src.got
// afterwards. kept is what need not be asked back of that: what was kept before,
// and what came in order for the first time. A copy of what is in hand, or was
// settled meanwhile, would be counted in place of one that was lost. Among several
// receivers nothing is asked back, and there is no order.
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
	all := src.got
	if all == nil {
		all = map[uint64]*nats.Msg{}
	}
	kept = maps.Clone(all)
	next, left := src.last+1, r.backlog[:0]
	for _, m := range r.backlog {
		if m.Sub != old {
			left = append(left, m)
			continue
		}
		p, ok := placeOf(m.Reply)
		certain := src.kept > 0
		switch {
		case !ok || src.owned && src.pin == "":
			continue
		case certain:
			src.kept--
		case p.consumer == next:
			next++
			certain = p.attempt == 1
		default:
			certain = !r.exclusive(src) // else something was lost before it
		}
		all[p.stream] = m
		if certain {
			kept[p.stream] = m
		}
	}
	clear(r.backlog[len(left):])
	r.backlog = left
	src.credit, src.bytes, src.larger, src.kept, src.joining, src.short, src.got = 0, 0, 0, 0, false, false, all
	return kept, nil
}

func (r *receiver) explainRewind(src *source, err error) error {
	if isGone(err) {
		return r.explain(src, errConsumerGone)
	}
	return translate("receive as "+r.s.Group+" of channel "+r.s.Channel.Name, err)
}

// exclusive reports whether all deliveries of a source's consumer come here, so
// that one that does not was lost.
func (r *receiver) exclusive(src *source) bool {
	switch {
	case src.owned:
		return src.pin != ""
	case r.members == nil:
		return true // a broadcast
	}
	return !src.foreign && !r.members.others()
}

// overtakes reports whether m may be ahead of deliveries that were lost, which
// resync then asks back.
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
