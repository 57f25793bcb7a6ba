package natsbus

import (
	"context"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
)

// mend makes the sources right again after the link was away: what was asked
// for is asked for anew, and what the server believes to have delivered and
// never arrived is asked back, so that it comes before anything later.
func (r *receiver) mend(ctx context.Context) error {
	epoch := r.c.epoch()
	r.mu.Lock()
	defer r.mu.Unlock()
	if epoch == r.epoch && !r.gap {
		return nil
	}
	// On a new inbox, requests of the time before are answered no more; what
	// arrived is in hand.
	_ = r.sub.Unsubscribe()
	r.gather()
	r.dropBehindGaps()
	if err := r.subscribe(); err != nil {
		return translate("receive from "+r.s.Channel.Name, err)
	}
	for _, src := range r.sources {
		src.credit = len(r.backlog) / len(r.sources) // each delivery takes one
		if epoch != r.epoch {
			src.suspect, src.rewinds = time.Now().Add(pullExpires), 0
		}
		if src.shared {
			continue // others may hold what is missing here; it comes when its lease ends
		}
		if err := r.rewind(ctx, src); err != nil {
			return r.explainRewind(src, err)
		}
		src.rewinds++
	}
	r.epoch, r.gap = epoch, false
	return nil
}

// dropBehindGaps leaves out of the backlog what came over the new link already,
// ahead of what was on its way over the old one. It is asked back with that.
func (r *receiver) dropBehindGaps() {
	next := map[*source]uint64{}
	kept := r.backlog[:0]
	for _, m := range r.backlog {
		src := r.sourceOf(m)
		p, ok := placeOf(m.Reply)
		if src == nil || !ok {
			continue // of the server, about requests of the time before
		}
		if _, met := next[src]; !met {
			next[src] = src.last + 1
		}
		if src.shared || p.consumer == next[src] {
			kept = append(kept, m)
			next[src]++
		}
	}
	r.backlog = kept
}

func (r *receiver) explainRewind(src *source, err error) error {
	if isGone(err) {
		return r.explain(src, errConsumerGone)
	}
	return translate("receive as "+r.s.Group+" of channel "+r.s.Channel.Name, err)
}

// maxRewind bounds how many sequences a rewind asks back one by one.
const maxRewind = 1 << 18

// rewind asks the server to deliver again, first and in order, what it counts
// as delivered and is not in hand. It keeps the server's count of attempts,
// which a reset of the consumer would not.
func (r *receiver) rewind(ctx context.Context, src *source) error {
	ctx, cancel := r.c.deadline(ctx)
	defer cancel()
	info, err := r.c.consumerInfo(ctx, r.stream, src.consumer)
	if err != nil {
		return err
	}
	src.last = info.Delivered.Consumer
	if info.NumAckPending == 0 {
		return nil
	}
	first, last := info.AckFloor.Stream+1, info.Delivered.Stream
	if last-first >= maxRewind {
		r.c.opts.Logger.Warn("natsbus: too much is unsettled to be asked back; it comes when its lease ends",
			"channel", r.s.Channel.Name, "group", r.s.Group, "unsettled", info.NumAckPending)
		return nil
	}
	held := map[uint64]bool{}
	for rc := src.held.first; rc != nil; rc = rc.next {
		held[rc.seq] = true
	}
	for _, m := range r.backlog {
		if p, ok := placeOf(m.Reply); ok && r.sourceOf(m) == src {
			held[p.stream] = true
		}
	}
	signal := make(signalFlight)
	token := r.c.acks.open(signal)
	defer r.c.acks.close(token)
	// What the server found undeliverable it has queued already, ahead of the
	// rest: asking for it later takes it out of the queue.
	later := strconv.AppendInt([]byte(`-NAK {"delay":`), int64(r.lease), 10)
	later = append(later, '}')
	prefix := "$JS.ACK." + r.stream + "." + src.consumer + ".1."
	suffix := "." + strconv.FormatUint(info.Delivered.Consumer, 10) + ".1.0"
	var asked []string
	for seq := first; seq <= last; seq++ {
		if !held[seq] {
			asked = append(asked, prefix+strconv.FormatUint(seq, 10)+suffix)
		}
	}
	if len(asked) == 0 {
		return nil
	}
	for _, subject := range asked {
		if err := r.c.nc.Publish(subject, later); err != nil {
			return err
		}
	}
	for _, subject := range asked[:len(asked)-1] {
		if err := r.c.nc.Publish(subject, ackNak); err != nil {
			return err
		}
	}
	// The last wants an answer: then all have been taken in.
	if err := r.c.nc.PublishRequest(asked[len(asked)-1], r.c.acks.prefix+token, ackNak); err != nil {
		return err
	}
	select {
	case <-signal:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// overtakes reports whether m may be ahead of deliveries that were lost with a
// link, which mend then asks back. A gap for another reason shows that the group
// has other receivers.
func (r *receiver) overtakes(src *source, m *nats.Msg) bool {
	p, _ := placeOf(m.Reply)
	if src.shared || p.consumer <= src.last+1 {
		return false
	}
	if r.c.epoch() != r.epoch {
		r.gap = true
	} else if src.rewinds > 0 && src.rewinds < maxRewinds && time.Now().Before(src.suspect) {
		r.gap = true
	} else {
		src.shared = true
	}
	return r.gap
}

func (r *receiver) outOfOrder() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.gap
}
