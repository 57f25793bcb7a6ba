package kafkabus

import (
	"github.com/dovetail-go/dovetail/driver"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A receiver holds messages in three places: in hand, waiting for a retry or in a
// queue, and in the client, which fetches ahead: from each broker, one answer that
// was not polled to its end. driver.Subscription.WindowBytes bounds all of them
// together: the client has a quarter of it, and what is polled stays below the rest,
// or, where a quarter is a mebibyte at most, below all of it.
// A batch that is larger than the client's share comes whole all the same.

const (
	mostFetched  = 16 << 20 // of a broker at once
	leastFetched = 16 << 10
	oneFetch     = 1 << 20 // by which driver.Subscription lets the window be passed
)

// fetchBytes is how much the client may fetch from one broker at once.
func fetchBytes(window int, t *topic) int {
	if window <= 0 {
		return mostFetched
	}
	brokers := map[int32]struct{}{}
	for _, leader := range t.leaders {
		brokers[leader] = struct{}{}
	}
	return min(max(window/4/max(1, len(brokers)), leastFetched), mostFetched)
}

// sizeOf is what a record counts against limits, as driver.Message.Size does.
func sizeOf(rec *kgo.Record) int {
	n := len(rec.Key) + len(rec.Value)
	for i := range rec.Headers {
		n += len(rec.Headers[i].Key) + len(rec.Headers[i].Value)
	}
	return n
}

// bytes is how much is in hand, and with that how much is held of what can be
// handed out. A partition that waits holds up no other with its queue.
func (r *receiver) bytes() (inHand, held int) {
	for _, p := range r.order {
		inHand += p.handBytes
		held += p.handBytes + p.retryBytes
		if p.takeable() {
			held += p.queueBytes
		}
	}
	return inHand, held
}

// takeable reports whether a partition's queue may be handed out.
func (p *part) takeable() bool { return !p.revoking && p.r.held[p.id] == 0 && !p.tracker.Full() }

// room is how many records a poll may bring, 0 if none because of the window.
func (r *receiver) room() int {
	queued := 0
	for _, p := range r.order {
		if p.takeable() {
			queued += len(p.queue)
		}
	}
	n := min(r.sub.Window-r.inHand-queued, maxPoll)
	if r.sub.WindowBytes <= 0 {
		return max(0, n)
	}
	_, held := r.bytes()
	left := r.sub.WindowBytes - held
	if ahead := r.sub.WindowBytes / 4; ahead > oneFetch {
		left -= ahead
	}
	if records := r.client.BufferedFetchRecords(); records > 0 {
		r.recordBytes = max(1, int(r.client.BufferedFetchBytes()/records))
	}
	if held > 0 && left <= 0 {
		return 0
	}
	return max(0, min(n, max(1, left/max(1, r.recordBytes))))
}

// Widen raises the window, as driver.Widener has it: the tracker alone still knows of
// what was set aside.
func (r *receiver) Widen(aside []*driver.Delivery) {
	r.mu.Lock()
	for _, d := range aside {
		it, ok := d.Receipt.(*item)
		if !ok || it.r != r || it.settled || it.p.gone {
			continue
		}
		it.settled = true // the core does not settle it
		it.p.inHand--
		it.p.handBytes -= it.size
		r.inHand--
	}
	r.mu.Unlock()
	r.wake()
}

// maxPoll bounds what one poll takes out of the client.
const maxPoll = 4096

// attributeBytes is what a record counts beyond its message's Size, at least: the
// names of attributes, and what is said twice.
func (r *receiver) attributeBytes(rec *kgo.Record) (n int) {
	for i := range rec.Headers {
		if h := &rec.Headers[i]; ours(h.Key) {
			n += len(h.Key)
			switch lower(h.Key) {
			case "ce_specversion", "ce_time", "ce_partitionkey":
				n += len(h.Value)
			}
		}
	}
	return n - len(r.sub.Channel.Name)
}
