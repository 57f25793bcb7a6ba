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

// recall has the server deliver again what it counts as delivered and is neither
// in hand nor among kept, from which it takes what is in hand. Nothing is handed out until all of that has come,
// since it comes in any order: while others stand in line for a partition, the
// server moves what waits to be delivered again to the end of its queue, one by
// one, whenever it has no request of the owner.
//
// What has come is all when it is as many as the server counts as unsettled, less
// those in hand. Of a message whose first copy another had, it is not known whether
// the server still counts it: that one may have settled it. For each such copy that
// is in hand or kept, and for each message that is delayed, one more is waited for.
// Then all has come when something later comes, or when the server has no more: a
// second request brought nothing, nothing went elsewhere meanwhile, and there is no
// less than the server counts beside what is in hand.
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
	unsure := len(skip) // who owned the partition meanwhile may have settled them
	for rc := src.held.first; rc != nil; rc = rc.next {
		skip[rc.seq] = true
		delete(kept, rc.seq)
	}
	for seq := range src.aside {
		skip[seq] = true
		delete(kept, seq)
	}
	least := info.NumAckPending
	for seq := range skip {
		if first <= seq && seq <= last { // the server does not count others
			least--
		}
	}
	unsure += src.copies(kept, info.AckFloor.Stream)
	fruitless := src.short && len(kept) == src.had && len(kept) >= least
	if fruitless && src.last != info.Delivered.Consumer {
		src.gap = true // it brought nothing because that went elsewhere: see who is there
		return nil
	}
	src.skip, src.last, src.upto, src.had = skip, info.Delivered.Consumer, last, len(kept)
	src.want = least + unsure
	if fruitless {
		src.want = 0 // the server has no more
	}
	if len(kept) < src.want {
		if err := r.askBack(ctx, src, kept, first, last); err != nil {
			return err
		}
	}
	src.got = kept
	src.gap, src.short, src.joining = false, false, len(kept) < src.want
	if !src.joining {
		r.collected(src, kept)
	}
	return nil
}

// copies is how many of the deliveries in hand, set aside and kept are not the
// first of their messages. The one that made us the owner does not count, unless
// the owner before has settled it: it was the first that was unsettled, and the
// acknowledgement floor has passed it then.
func (s *source) copies(kept map[uint64]*nats.Msg, floor uint64) (n int) {
	count := func(reply string) {
		if p, _ := placeOf(reply); p.attempt > 1 {
			n++
		}
	}
	for rc := s.held.first; rc != nil; rc = rc.next {
		count(rc.reply)
	}
	for _, reply := range s.aside {
		count(reply)
	}
	for seq, m := range kept {
		if seq != s.won || seq <= floor {
			count(m.Reply)
		}
	}
	return n
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
			return
		}
		if src.aside.has(p.stream, m.Reply) {
			return
		}
		// It was handed back meanwhile, or its delay is over.
		delete(src.skip, p.stream)
		src.want++
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

// maxRecall bounds how many sequences are asked back one by one.
const maxRecall = 1 << 20

// askBack asks the server to deliver again what it may count as unsettled and is
// neither in hand nor among kept. The server passes over what it does not, as what is settled or of
// other partitions. Its count of attempts goes on, and what was settled stays so,
// which both would not be with a reset of the consumer (nats-server 2.14).
func (r *receiver) askBack(ctx context.Context, src *source, kept map[uint64]*nats.Msg, first, last uint64) error {
	if last-first >= maxRecall {
		r.c.opts.Logger.Warn("natsbus: too much is unsettled to be asked back; it comes when its lease ends",
			"channel", r.s.Channel.Name, "group", r.s.Group, "unsettled", src.want)
		src.want = 0
		return nil
	}
	prefix := "$JS.ACK." + r.stream + "." + src.consumer + ".1."
	suffix := "." + strconv.FormatUint(src.last, 10) + ".1.0"
	var asked []string
	for seq := first; seq <= last; seq++ {
		if !src.skip[seq] && kept[seq] == nil {
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
