package dovetail

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
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
	s        *Service
	src      *source
	inbounds []*inbound

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
	b       *inbound
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

// Pace of what instances tell each other.
const (
	tellEvery  = 3 * time.Second // where nothing is claimed
	tellOften  = time.Second     // else
	peerGone   = 3 * tellEvery   // after which one that says nothing is taken for gone
	deafAfter  = 2 * peerGone    // after which an instance that does not hear itself goes on alone, as the others do without it
	greetLimit = 2 * time.Second // until an instance that starts has heard itself, at most
	greetTime  = 100 * time.Millisecond
	tellLimit  = 5 * time.Second // of one attempt
)

// Bounds of what is told, and of what is believed.
const (
	maxClaims     = 256
	maxClaimBytes = 128 << 10 // of keys; at least one claim
	maxPeers      = 1000
	maxClock      = 1 << 62
)

// claimsType is the type of the messages.
const claimsType = "dovetail.claims.v1"

// A claimState is what one instance tells.
type claimState struct {
	Instance string      `json:"instance"`
	At       int64       `json:"at"` // grows
	Clock    uint64      `json:"clock"`
	Left     bool        `json:"left,omitempty"`
	Claims   []claimLine `json:"claims,omitempty"`
	Granted  []claimID   `json:"granted,omitempty"`
}

// A claimLine is one claim.
type claimLine struct {
	Time    uint64 `json:"time"`
	Channel string `json:"channel"`
	Group   string `json:"group"`
	Key     []byte `json:"key"`
}

// newClaims makes what is needed for the keys of letters, nil where no inbound
// keeps the order of its keys across instances.
func (r *run) newClaims() *claims {
	if !r.sharesKeys() {
		return nil
	}
	c := &claims{s: r.s, clock: uint64(time.Now().UnixMicro()), wake: make(chan struct{}, 1), echoed: make(chan struct{}), heard: time.Now(), own: make(map[claimID]*claim), peers: make(map[string]*peer)}
	for _, b := range r.inbounds {
		if b.ordered {
			c.inbounds = append(c.inbounds, b)
			b.sched.keys.claims, b.sched.keys.of = c, b
		}
	}
	c.src = &source{
		s: r.s, feed: c.take,
		sub: driver.Subscription{Channel: keysOf(r.s.name), Group: r.s.name + broadcastMark + r.s.opts.Instance, Instance: r.s.opts.Instance,
			Broadcast: true, Window: maxReceive},
		room:  func(ctx context.Context) (int, error) { return maxReceive, ctx.Err() },
		tasks: func(f func(*task)) {}, // none is in hand
	}
	return c
}

// keysOf is the channel on which they do. Nobody misses what is in it.
func keysOf(service string) driver.Channel {
	return driver.Channel{Name: keysChannel(service), Kind: driver.PublishSubscribe, Transient: true}
}

// sharesKeys reports whether an inbound keeps the order of its keys across
// instances, and can get letters.
func (r *run) sharesKeys() bool {
	return r.s.caps.Broadcast && r.keepsDeadLetters() && slices.ContainsFunc(r.inbounds, func(b *inbound) bool { return b.ordered })
}

// make makes a claim to a key. The scheduler's mutex is held.
func (c *claims) make(b *inbound, key string) *claim {
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

// run tells the others until ctx ends, and then that this instance leaves.
func (c *claims) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-c.wake:
		case <-timer.C:
		case <-ctx.Done():
			c.tell(context.WithoutCancel(ctx), claimState{Left: true})
			return
		}
		c.forgetGone()
		st := claimState{Granted: c.grants(), Left: c.deaf()}
		st.Claims = c.lines()
		c.tell(ctx, st)
		if timer.Reset(tellEvery); len(st.Claims)+len(st.Granted) > 0 {
			timer.Reset(tellOften)
		}
	}
}

// lines are the claims to be told, the earliest first. Those beyond the bounds
// wait for these.
func (c *claims) lines() (lines []claimLine) {
	c.mu.Lock()
	defer c.mu.Unlock()
	size := 0
	for _, n := range c.earliest() {
		if size += len(n.key); len(lines) == maxClaims || len(lines) > 0 && size > maxClaimBytes {
			break
		}
		lines = append(lines, claimLine{n.id.Time, n.b.channel.Name, n.b.group, []byte(n.key)})
	}
	return lines
}

func (c *claims) earliest() []*claim {
	list := make([]*claim, 0, len(c.own))
	for _, n := range c.own {
		list = append(list, n)
	}
	slices.SortFunc(list, func(a, b *claim) int { return cmp.Compare(a.id.Time, b.id.Time) })
	return list
}

// grants are the claims of others that are granted.
func (c *claims) grants() (ids []claimID) {
	for _, b := range c.inbounds {
		ids = append(ids, b.sched.grants()...)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.peers {
		ids = append(ids, p.elsewhere...)
	}
	return ids
}

// tell publishes what this instance claims and has granted.
func (c *claims) tell(ctx context.Context, st claimState) {
	c.mu.Lock()
	c.at = max(c.at+1, time.Now().UnixNano())
	st.Instance, st.At, st.Clock = c.s.opts.Instance, c.at, c.clock
	if c.since.IsZero() {
		c.since = time.Now()
	}
	c.mu.Unlock()
	body, err := json.Marshal(st)
	if err == nil {
		channel := c.src.sub.Channel.Name
		sending, cancel := context.WithTimeout(ctx, tellLimit)
		defer cancel()
		err = c.s.conn.Send(sending, []*driver.Message{{Channel: channel, Transient: true, ID: NewID(), Source: c.s.name, Type: claimsType, Time: now(),
			ContentType: "application/json", Key: st.Instance, Body: body}})
	}
	if err != nil && ctx.Err() == nil {
		c.src.notice(Notice{Kind: NoticeSettle, Err: fmt.Errorf("tell the other instances which keys are in hand: %w", err),
			quiet: c.s.broker.isAway() || !c.s.rare(c.src.sub.Channel.Name)})
	}
}

// take hears what others tell. It is the feed of the channel's source.
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
	for _, b := range c.inbounds {
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

func (b *inbound) takes(l claimLine) bool { return b.channel.Name == l.Channel && b.group == l.Group }

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
		if !slices.ContainsFunc(c.inbounds, func(b *inbound) bool { return b.takes(l) }) {
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
		for _, b := range c.inbounds {
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

// greet waits, when the service starts, until the others have been heard: what they
// claim is not to be handled here.
func (c *claims) greet(ctx context.Context) {
	limit := time.NewTimer(greetLimit)
	defer limit.Stop()
	select {
	case <-c.echoed:
		wait(ctx, greetTime)
	case <-limit.C:
	case <-ctx.Done():
	}
}
