package natsbus

import (
	"context"
	"encoding/json"
	"fmt"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
)

// memberSubject is where the receivers of a group hear of each other. No channel
// has a name in capitals, so that no stream keeps it.
func memberSubject(stream, group string) string {
	return "DOVETAIL.members." + stream + "." + objectName(group)
}

const (
	// memberAnswer is how long to wait for the answer of a receiver that the
	// server knows and that may be the ghost of a link that is gone.
	memberAnswer = time.Second

	// memberLapse is after how long without a word one that shares partitions
	// is no longer counted.
	memberLapse = 4 * shareEvery
)

// A membership is how the receivers of a group know of each other: over plain NATS,
// where nothing is kept. What depends on it is who asks back what was lost, and
// how partitions are shared; that a partition has one owner does not.
type membership struct {
	c       *Conn
	subject string
	id      string

	mu    sync.Mutex
	sub   *nats.Subscription
	owned int // partitions
	peers map[string]peer
}

// A peer is another receiver of the group.
type peer struct {
	heard time.Time
	owned int
}

// A word is what a receiver says of itself.
type word struct {
	ID    string `json:"id"`
	Owned int    `json:"owned,omitempty"` // partitions
	Bye   bool   `json:"bye,omitempty"`
}

func newMembership(c *Conn, stream, group string) *membership {
	return &membership{c: c, subject: memberSubject(stream, group), id: c.acks.unique + uniqueName(), peers: map[string]peer{}}
}

// alone asks whether anybody else receives for the group. The server says at
// once where nobody listens; so we do not listen ourselves while it takes in the
// question, and begin to behind it. Somebody may listen who does not answer: then
// ghost is true. It is the end of a link that is lost and that the server has not
// missed yet, or of a receiver that has been stopped.
func (m *membership) alone(ctx context.Context) (alone, ghost bool, err error) {
	doing := "look for other receivers"
	watch := m.c.watchDenials()
	link := m.c.watchLink()
	f := &rollCall{m: m, absent: make(chan struct{}), heard: make(chan struct{})}
	token := m.c.acks.open(f)
	defer m.c.acks.close(token)
	m.unsubscribe()
	m.mu.Lock()
	clear(m.peers)
	m.mu.Unlock()
	if err := m.c.nc.PublishRequest(m.subject, m.c.acks.prefix+token, m.word(false)); err != nil {
		return false, false, translate(doing, err)
	}
	if err := m.listen(); err != nil {
		return false, false, translate(doing, err)
	}
	if err := watch.of(ctx, m.subject); err != nil {
		return false, false, translate(doing, err)
	}
	timer := time.NewTimer(memberAnswer)
	defer timer.Stop()
	for {
		select {
		case <-f.heard:
			return false, false, nil
		case <-f.absent:
			return true, false, nil
		case <-timer.C:
			return true, true, nil
		case <-link.event:
			if link.lost() {
				return false, false, errLinkLost(doing)
			}
		case <-ctx.Done():
			return false, false, translate(doing, ctx.Err())
		}
	}
}

// A rollCall awaits the first answer to the question who is there.
type rollCall struct {
	m             *membership
	absent, heard chan struct{}
	once          sync.Once
}

func (f *rollCall) answer(_ string, msg *nats.Msg) {
	if noResponders(msg) {
		f.once.Do(func() { close(f.absent) })
		return
	}
	f.m.hear(msg)
	f.once.Do(func() { close(f.heard) })
}

func (m *membership) word(bye bool) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, err := json.Marshal(word{ID: m.id, Owned: m.owned, Bye: bye})
	if err != nil {
		panic(fmt.Sprintf("natsbus: a word that cannot be encoded: %v", err)) // it is a struct of our own
	}
	return b
}

func (m *membership) listen() error {
	sub, err := m.c.nc.Subscribe(m.subject, m.hear)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.sub = sub
	m.mu.Unlock()
	return nil
}

func (m *membership) unsubscribe() {
	m.mu.Lock()
	sub := m.sub
	m.sub = nil
	m.mu.Unlock()
	if sub != nil {
		_ = sub.Unsubscribe()
	}
}

// hear takes in what another says, and answers what it asks.
func (m *membership) hear(msg *nats.Msg) {
	var w word
	if json.Unmarshal(msg.Data, &w) != nil || w.ID == "" || w.ID == m.id {
		return
	}
	m.mu.Lock()
	if w.Bye {
		delete(m.peers, w.ID)
	} else {
		m.peers[w.ID] = peer{time.Now(), w.Owned}
	}
	m.mu.Unlock()
	if msg.Reply != "" {
		_ = m.c.nc.Publish(msg.Reply, m.word(false))
	}
}

// others reports whether another receiver of the group is known.
func (m *membership) others() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.peers) > 0
}

// say tells the others how many partitions are ours.
func (m *membership) say(owned int) {
	m.mu.Lock()
	m.owned = owned
	m.mu.Unlock()
	_ = m.c.nc.Publish(m.subject, m.word(false)) // again soon
}

// leastLoaded is how few partitions another has that was heard of lately; ok is
// false where there is none.
func (m *membership) leastLoaded(now time.Time) (owned int, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for id, p := range m.peers {
		if now.Sub(p.heard) > memberLapse {
			delete(m.peers, id)
			continue
		}
		if !ok || p.owned < owned {
			owned, ok = p.owned, true
		}
	}
	return owned, ok
}

// leave says goodbye.
func (m *membership) leave() {
	m.unsubscribe()
	if m.c.nc.IsConnected() {
		_ = m.c.nc.Publish(m.subject, m.word(true))
	}
}

// refuseOrder says why a subscription cannot be ordered.
func (c *Conn) refuseOrder(s driver.Subscription) error {
	about := func(remedy string) error {
		return fmt.Errorf("natsbus: subscription of %s to %s: order across instances is %w: %s", s.Group, s.Channel.Name, driver.ErrUnsupported, remedy)
	}
	switch {
	case s.Channel.Transient:
		return about("a transient channel (AtMostOnce) has none: leave one of the two out")
	case !c.serverAtLeast(2, 11):
		return about("this nats-server is older than 2.11, which can give partitions owners: upgrade it, or leave Ordered out and run one instance")
	}
	return about("the channel was made without partitions, and their number is fixed: " + driver.Repartition(s.Channel.Name) +
		"; or leave Ordered out and run one instance")
}
