package dovetail

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
)

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
	for _, b := range c.consumers {
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
		c.src.notice(Notice{Kind: NoticeReceive, Err: fmt.Errorf("tell the other instances which keys are in hand: %w", err),
			quiet: c.s.broker.isAway() || !c.s.mayWarn(c.src.sub.Channel.Name)})
	}
}

// greet waits, when the service starts, until the others have been heard: what they
// claim is not to be handled here.
func (c *claims) greet(ctx context.Context) {
	limit := time.NewTimer(greetLimit)
	defer limit.Stop()
	select {
	case <-c.echoed:
		backoff.Sleep(ctx, greetTime)
	case <-limit.C:
	case <-ctx.Done():
	}
}
