package kafkabus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/prefix"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A receiver reads one subscription's topic with a client of its own: as a member
// of the group, or, for broadcast subscriptions and reply channels, by itself.
//
// The client calls back into it when partitions come and go (assign.go). mu is
// held for moments only, and never while the client or the server is waited for.
type receiver struct {
	c       *Conn
	sub     driver.Subscription
	topic   *topic
	client  *kgo.Client
	kill    context.CancelFunc // ends what the client still does for good
	leaves  context.CancelFunc // ends keepCommitting
	group   bool               // a member of a group, which commits
	filter  bool               // several channels share the topic
	begin   []int64            // where the group begins, by partition
	taken   removed            // what was taken out of the channel
	wg      sync.WaitGroup
	limit   int           // of a partition's tracker
	unsaved uint64        // how much may be settled and not committed
	done    chan struct{} // closed by Close
	given   chan struct{} // closed when the group was given out for the first time
	giving  sync.Once     // closes given
	once    sync.Once
	err     error // of Close

	commits chan struct{} // one token: who has it commits
	noted   chan struct{} // something was settled that no commit holds

	mu          sync.Mutex
	parts       map[int32]*part
	order       []*part // parts by id
	turn        int     // which of them is next
	inHand      int     // handed out and not settled
	queued      int     // polled and not handed out
	recordBytes int     // of the last that were fetched, on average
	retries     retries
	items       []item // made and not used
	rooms       rooms
	polling     *polling       // the poll under way
	changed     chan struct{}  // closed and replaced when Receive should look again
	settled     uint64         // counts changes that want a commit
	committed   uint64         // of settled, the last that a commit holds
	uncommitted error          // why the last commit failed for good, until Settle has told
	held        map[int32]int  // partitions whose loss the core has not released, and how often
	leaving     map[int32]bool // partitions that were kept and are given up, of which the client does not know yet
	paused      map[int32]bool // what the client does not fetch; it remembers it beyond a rebalance
	lost        error          // an error that no partition has
	revoked     chan []int
	expired     map[int32]bool // partitions that had no committed offset when they were assigned
}

// A part is a partition while it is ours.
type part struct {
	r                                 *receiver
	id                                int32
	tracker                           *prefix.Tracker
	queue                             []*kgo.Record // polled and not handed out
	skip                              runs          // settled already, as the commit's metadata says
	position                          int64         // committed, or where we began
	next                              int64         // the first offset that was not taken from queue yet
	epoch                             int32         // of the leader that wrote the last record
	inHand                            int
	handBytes, retryBytes, queueBytes int
	dirty                             bool  // settled what is not committed
	revoking                          bool  // hands out nothing more
	keeping                           bool  // is not ours any more, but for what is in hand: see handover.go
	gone                              bool  // is not ours any more
	err                               error // ends Receive
}

// A polling is a poll under way: who cancels it may wait until what it returned
// is in the queues.
type polling struct {
	cancel context.CancelFunc
	done   chan struct{}
}

var (
	_ driver.Receiver   = (*receiver)(nil)
	_ driver.Revoker    = (*receiver)(nil)
	_ driver.Backlogger = (*receiver)(nil)
	_ driver.Widener    = (*receiver)(nil)
)

// OpenReceiver joins the group, or finds where the topic ends, and begins to
// fetch.
func (c *Conn) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	if err := c.ready(); err != nil {
		return nil, err
	}
	if err := errors.Join(validChannel(s.Channel), validGroup(s.Group)); err != nil {
		return nil, err
	}
	doing := fmt.Sprintf("open receiver of %s for channel %s", s.Group, s.Channel.Name)
	t, err := c.topic(ctx, topicOf(s.Channel.Name, s.Channel.Transient), s.Channel.Name)
	if err != nil {
		return nil, fmt.Errorf("kafkabus: %s: %w", doing, err)
	}
	r := &receiver{
		c: c, sub: s, topic: t, filter: t.name != s.Channel.Name, group: !s.Broadcast && !driver.IsReply(s.Channel.Name, s.Channel.Transient),
		limit: max(s.Window, c.opts.MaxAhead), unsaved: uint64(max(s.Window, min(c.opts.MaxAhead, maxUnsaved))), done: make(chan struct{}), given: make(chan struct{}), commits: make(chan struct{}, 1),
		noted: make(chan struct{}, 1), parts: map[int32]*part{},
		changed: make(chan struct{}), held: map[int32]int{}, leaving: map[int32]bool{}, paused: map[int32]bool{}, revoked: make(chan []int, 64), expired: map[int32]bool{},
	}
	r.sub.Window = max(1, s.Window)
	if r.group {
		err = r.join(ctx)
	} else {
		err = r.follow(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("kafkabus: %s: %w", doing, err)
	}
	keep, leaves := context.WithCancel(context.Background())
	r.leaves = leaves
	if r.group {
		r.wg.Go(func() { r.keepCommitting(keep) })
	}
	c.mu.Lock()
	closed := c.shut.Load()
	if !closed {
		c.receivers[r] = struct{}{}
	}
	c.mu.Unlock()
	if closed {
		_ = r.Close(ctx) // it has nothing in hand
		return nil, fmt.Errorf("kafkabus: %s: %w", doing, driver.ErrClosed)
	}
	if err := r.awaitGroup(ctx); err != nil {
		_ = r.Close(context.WithoutCancel(ctx)) // it has nothing in hand
		return nil, fmt.Errorf("kafkabus: %s: %w", doing, err)
	}
	return r, nil
}

// add makes a partition ours.
func (r *receiver) add(id int32, position int64) {
	r.drop(id)
	p := &part{r: r, id: id, tracker: prefix.New(r.limit), position: position, next: position, epoch: -1}
	r.parts[id] = p
	at, _ := slices.BinarySearchFunc(r.order, id, func(p *part, id int32) int { return int(p.id - id) })
	r.order = slices.Insert(r.order, at, p)
}

// drop makes a partition no longer ours. What is in hand of it is passed over
// when it is settled.
func (r *receiver) drop(id int32) {
	p := r.parts[id]
	if p == nil {
		return
	}
	r.empty(p)
	r.inHand -= p.inHand
	p.gone, p.inHand, p.handBytes = true, 0, 0
	delete(r.parts, id)
	r.order = slices.DeleteFunc(r.order, func(o *part) bool { return o == p })
}

// empty forgets what was not handed out of a partition.
func (r *receiver) empty(p *part) {
	r.queued -= len(p.queue)
	p.queue, p.queueBytes, p.retryBytes = nil, 0, 0
	r.retries.drop(p)
}

// Close commits what is settled, leaves the group, and ends Receive. What is
// unsettled comes to the next owner of its partition.
func (r *receiver) Close(ctx context.Context) error {
	r.once.Do(func() {
		r.mu.Lock()
		close(r.done)
		r.mu.Unlock()
		r.leaves()
		r.wake()
		r.c.mu.Lock()
		delete(r.c.receivers, r)
		r.c.mu.Unlock()
		if r.group {
			bounded, cancel := context.WithTimeout(ctx, r.c.opts.Timeout)
			r.err = r.commit(bounded)
			r.leave(bounded)
			cancel()
		}
		r.mu.Lock()
		if r.sub.Broadcast {
			r.keepFollowing()
		}
		for id := range r.parts {
			r.drop(id)
		}
		r.mu.Unlock()
		r.kill()
		r.client.Close()
		r.wg.Wait()
		if r.err != nil && ctx.Err() != nil {
			r.err = nil // cut short, as was asked for: what was not committed comes again
		}
	})
	return r.err
}

// id is how the server, or for a broadcast subscription the Conn, knows the group.
func (r *receiver) id() string { return groupID(r.sub.GroupName(), r.topic.name) }

func (r *receiver) closed() bool {
	select {
	case <-r.done:
		return true
	default:
		return false
	}
}

// wake makes a Receive that waits look again.
func (r *receiver) wake() {
	r.mu.Lock()
	r.signal()
	if r.polling != nil {
		r.polling.cancel()
	}
	r.mu.Unlock()
}

// signal is wake for those who hold mu and know that no poll is under way, or
// that it need not end.
func (r *receiver) signal() {
	close(r.changed)
	r.changed = make(chan struct{})
}
