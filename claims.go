package dovetail

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// claims is what the instances of a service tell each other of the keys that they
// claim (lock.go). Each publishes all that it claims and has granted, whenever that
// changes, and every now and then: what is lost on the way is told again, and who
// says nothing for long is taken for gone.
type claims struct {
	nothingInHand
	s         *Service
	src       *source
	consumers []*groupConsumer

	wake   chan struct{} // one token: something has changed
	echoed chan struct{} // closed when this instance has heard itself

	mu    sync.Mutex
	clock uint64    // later than any that it has heard of; it begins with the time, and so never repeats itself
	at    int64     // of what was published last
	heard time.Time // when this instance last heard itself
	since time.Time // when it first told something since then; zero for not yet
	own   map[claimID]*claim
	peers map[string]*peer
}

// A claim is this instance's own, to the key of a letter.
type claim struct {
	id      claimID
	b       *groupConsumer
	key     string
	granted atomic.Bool // by all others
}

// A peer is another instance.
type peer struct {
	at        int64
	heard     time.Time
	granted   map[claimID]bool
	elsewhere []claimID // its claims to keys of what this instance does not handle
}

// newClaims makes what is needed for the keys of letters, nil where no group consumer
// keeps the order of its keys across instances.
func (r *run) newClaims() *claims {
	if !r.sharesKeys() {
		return nil
	}
	c := &claims{s: r.s, clock: uint64(time.Now().UnixMicro()), wake: make(chan struct{}, 1), echoed: make(chan struct{}), heard: time.Now(), own: make(map[claimID]*claim), peers: make(map[string]*peer)}
	for _, b := range r.consumers {
		if b.ordered {
			c.consumers = append(c.consumers, b)
			b.sched.keys.claims, b.sched.keys.of = c, b
		}
	}
	c.src = &source{
		s: r.s, sink: c,
		sub: driver.Subscription{Channel: keysOf(r.s.name), Group: r.s.name + broadcastMark + r.s.opts.Instance, Instance: r.s.opts.Instance,
			Broadcast: true, Window: maxReceive},
	}
	return c
}

// keysOf returns the channel on which the instances exchange claims. It is transient:
// a claim that is lost is published again.
func keysOf(service string) driver.Channel {
	return driver.Channel{Name: keysChannel(service), Kind: driver.PublishSubscribe, Transient: true}
}

// sharesKeys reports whether a group consumer keeps the order of its keys across
// instances, and can get letters.
func (r *run) sharesKeys() bool {
	return r.s.caps.Broadcast && r.keepsDeadLetters() && slices.ContainsFunc(r.consumers, func(b *groupConsumer) bool { return b.ordered })
}

// make makes a claim to a key. The scheduler's mutex is held.
func (c *claims) make(b *groupConsumer, key string) *claim {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	n := &claim{id: claimID{c.s.opts.Instance, c.clock}, b: b, key: key}
	n.granted.Store(len(c.peers) == 0)
	c.own[n.id] = n
	c.ownChanged()
	return n
}

// end ends a claim. The scheduler's mutex is held.
func (c *claims) end(n *claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.own, n.id)
	c.ownChanged()
}

// ownChanged has the others be told, if there are any. c.mu is held.
func (c *claims) ownChanged() {
	if len(c.peers) > 0 {
		c.changed()
	}
}

// changed has the others be told.
func (c *claims) changed() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// take takes in the claims that other instances publish, and settles them.
func (c *claims) take(src *source, ds []*driver.Delivery) {
	settlements := make([]driver.Settlement, len(ds))
	for i, d := range ds {
		settlements[i].Delivery = d
		var st claimState
		if m := d.Message; m.Type == claimsType && m.Source == c.s.name && json.Unmarshal(m.Body, &st) == nil {
			c.hear(&st)
		}
	}
	// The transport's own deadlines end it, as they do every call to a server.
	if from, err := src.settle(context.Background(), settlements); err != nil {
		src.notice(Notice{Kind: NoticeSettle, Err: err})
		src.renew(from)
	}
}

// hear takes in what an instance tells.
func (c *claims) hear(st *claimState) {
	if st.Instance == c.s.opts.Instance {
		c.echo()
		return
	}
	claimed := make(map[claimID]claimLine, len(st.Claims))
	size := 0
	for i, l := range st.Claims {
		if size += len(l.Key); i == maxClaims || i > 0 && size > maxClaimBytes {
			break
		}
		claimed[claimID{st.Instance, l.Time}] = l
	}
	if !c.note(st, claimed) {
		return
	}
	for _, b := range c.consumers {
		own := make(map[claimID]string)
		for id, l := range claimed {
			if b.takes(l) {
				own[id] = string(l.Key)
			}
		}
		b.sched.claimed(st.Instance, own)
	}
	c.settleOwn()
}

func (b *groupConsumer) takes(l claimLine) bool {
	return b.channel.Name == l.Channel && b.group == l.Group
}

// echo notes that this instance hears itself.
func (c *claims) echo() {
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-c.echoed:
	default:
		close(c.echoed)
	}
	c.heard, c.since = time.Now(), time.Time{}
}

// note notes what a peer tells. It reports false for what is older than what is
// known of it.
func (c *claims) note(st *claimState, claimed map[claimID]claimLine) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.peers[st.Instance]
	switch {
	case p != nil && st.At <= p.at, p == nil && (st.Left || len(c.peers) == maxPeers):
		return false
	case st.Left:
		delete(c.peers, st.Instance)
		return true
	case p == nil:
		p = new(peer)
		c.peers[st.Instance] = p
		c.changed() // it wants to know of us
	}
	c.clock = max(c.clock, min(st.Clock, maxClock))
	p.at, p.heard, p.granted = st.At, time.Now(), make(map[claimID]bool, len(st.Granted))
	for _, id := range st.Granted {
		if _, ours := c.own[id]; ours {
			p.granted[id] = true
		}
	}
	before := len(p.elsewhere)
	p.elsewhere = p.elsewhere[:0]
	for id, l := range claimed {
		if !slices.ContainsFunc(c.consumers, func(b *groupConsumer) bool { return b.takes(l) }) {
			p.elsewhere = append(p.elsewhere, id)
		}
	}
	if len(p.elsewhere) > before {
		c.changed()
	}
	return true
}

// settleOwn has the letters go on whose claims all others have granted.
func (c *claims) settleOwn() {
	var granted []*claim
	alone := c.deaf()
	c.mu.Lock()
	for id, n := range c.own {
		all := true
		for _, p := range c.peers {
			all = all && (alone || p.granted[id])
		}
		if all && !n.granted.Load() {
			n.granted.Store(true)
			granted = append(granted, n)
		}
	}
	c.mu.Unlock()
	for _, n := range granted {
		n.b.sched.granted(n)
	}
}

// forgetGone forgets the peers that have said nothing for long, as far as this
// instance would have heard them.
func (c *claims) forgetGone() {
	var gone []string
	deaf := c.deaf()
	c.mu.Lock()
	until := c.heard
	if deaf {
		until = time.Now()
	}
	for name, p := range c.peers {
		if until.Sub(p.heard) > peerGone {
			delete(c.peers, name)
			gone = append(gone, name)
		}
	}
	c.mu.Unlock()
	for _, name := range gone {
		for _, b := range c.consumers {
			b.sched.claimed(name, nil)
		}
	}
	c.settleOwn()
}

// deaf reports whether this instance has not heard itself for long, although it
// told something.
func (c *claims) deaf() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.since.IsZero() && time.Since(c.since) > deafAfter
}
