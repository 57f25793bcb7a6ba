package rabbitbus

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// A receiver consumes the queues of a group.
type receiver struct {
	c       *Conn
	link    *link // that its channels are on
	s       driver.Subscription
	st      *channelState
	queues  int    // that it consumes
	sizes   *sizes // of what they hold
	sources []*source

	closing chan struct{} // closed when Close begins
	end     sync.Once
	ended   chan struct{} // closed when Close is done
	wake    chan struct{} // capacity 1: something came, or ended

	receiving sync.Mutex      // held by Receive
	raw       []amqp.Delivery // of Receive: what is being decoded
	settling  sync.Mutex      // held while settlements are written, whose order counts

	mu     sync.Mutex
	held   int // handed out and not settled
	bytes  int // of these
	turn   int // the source that is looked at first
	closed bool
}

var (
	_ driver.Receiver   = (*receiver)(nil)
	_ driver.Backlogger = (*receiver)(nil)
)

// OpenReceiver begins to receive for a group that was provisioned; a broadcast
// subscription comes into being here.
func (c *Conn) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	if _, err := c.sub.session(); err != nil {
		return nil, err
	}
	if err := c.validSubscription(s); err != nil {
		return nil, err
	}
	doing := "receive from " + s.Channel.Name + " as " + s.Group
	st, err := c.channel(ctx, s.Channel.Name)
	if err != nil {
		return nil, translate(doing, err)
	}
	if s.Ordered && !s.Broadcast && !st.exclusive() {
		return nil, fmt.Errorf("rabbitbus: %s: order across instances is %w: the channel was made without partitions, and their number is fixed: %s; or leave Ordered out and run one instance",
			doing, driver.ErrUnsupported, driver.Repartition(s.Channel.Name))
	}
	r := &receiver{c: c, s: s, st: st, closing: make(chan struct{}), ended: make(chan struct{}), wake: make(chan struct{}, 1)}
	if r.link, err = c.linkFor(ctx, r.channels()); err != nil {
		return nil, translate(doing, err)
	}
	if err := r.begin(ctx); err != nil {
		r.abort()
		if isCode(err, amqp.NotFound) {
			c.chans.drop(s.Channel.Name) // what is known of it may be out of date
		}
		return nil, translate(doing, err)
	}
	if err := c.enter(r); err != nil {
		r.abort()
		return nil, err
	}
	if len(r.sources) > 1 {
		return share(r), nil
	}
	if r.owned() {
		return r, nil
	}
	return &whole{r}, nil
}

// channels are as many as r uses: one for each queue, and one to be counted by.
func (r *receiver) channels() int {
	if r.s.Broadcast {
		return 1
	}
	return max(1, r.st.partitions) + 1
}

// begin makes the sources and opens each.
func (r *receiver) begin(ctx context.Context) error {
	sess, err := r.link.session()
	if err != nil {
		return err
	}
	queues := partNames(groupBase(r.s.Channel, r.s.Group), r.st.partitions)
	if r.st.hasHome() {
		queues = []string{r.st.homeNow()}
	}
	if r.s.Broadcast {
		queue, err := r.c.openInstance(ctx, r.s, r.st)
		if err != nil {
			return err
		}
		queues = []string{queue}
	}
	r.queues = len(queues)
	sized, _ := r.c.sizes.LoadOrStore(groupBase(r.s.Channel, r.s.Group), new(sizes))
	r.sizes = sized.(*sizes)
	for k, q := range queues {
		src := &source{r: r, queue: q, partition: k}
		r.sources = append(r.sources, src)
		if err := src.open(ctx, sess); err != nil {
			return err
		}
	}
	return nil
}

// abort ends what begin began.
func (r *receiver) abort() {
	ctx, cancel := context.WithTimeout(context.Background(), r.c.opts.Timeout)
	defer cancel()
	_ = r.Close(ctx)
}

func (r *receiver) kick() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Receive waits for deliveries and returns at most max of them.
func (r *receiver) Receive(ctx context.Context, max int) ([]*driver.Delivery, error) {
	r.receiving.Lock()
	defer r.receiving.Unlock()
	for {
		if err := r.isOpen(); err != nil {
			return nil, err
		}
		if ctx.Err() != nil {
			return nil, canceled(ctx, "receive from "+r.s.Channel.Name)
		}
		link := r.link.changed()
		wait, err := r.resync(ctx)
		if err != nil {
			return nil, err
		}
		if ds := r.take(max); len(ds) > 0 {
			return ds, nil
		}
		if err := r.pause(ctx, link, wait); err != nil {
			return nil, err
		}
	}
}

// pause waits until there may be something to do.
func (r *receiver) pause(ctx context.Context, link <-chan struct{}, wait time.Duration) error {
	var timeout <-chan time.Time
	if wait > 0 {
		timer := time.NewTimer(wait)
		defer timer.Stop()
		timeout = timer.C
	}
	select {
	case <-r.wake:
	case <-ctx.Done():
	case <-r.closing:
	case <-link:
	case <-timeout:
	}
	return nil
}

// isOpen returns why the receiver cannot receive, if so.
func (r *receiver) isOpen() error {
	select {
	case <-r.closing:
		return fmt.Errorf("rabbitbus: receiver of %s for %s %w", r.s.Group, r.s.Channel.Name, driver.ErrClosed)
	default:
		return nil
	}
}

// A slot is what a delivery takes in memory.
type slot struct {
	d driver.Delivery
	m driver.Message
	r receipt
}

// take turns what has come into at most max deliveries, within the window.
func (r *receiver) take(max int) []*driver.Delivery {
	r.mu.Lock()
	raw := r.raw[:0]
	var out []*driver.Delivery
	max = min(max, r.s.Window-r.held)
	for n := range r.sources {
		src := r.sources[(r.turn+n)%len(r.sources)]
		if src.leaving || len(src.arrived) == 0 {
			continue
		}
		src.owner = true // the server delivers to nobody else
		count := r.fitting(src.arrived, max-len(out))
		out = slices.Grow(out, count)
		for i := range count {
			a := &src.arrived[i]
			s := new(slot) // alone, since it may be held for long
			raw = append(raw, a.d)
			s.r = receipt{src: src, tag: a.d.DeliveryTag, size: a.size, consumer: src.consumers}
			src.out++
			src.held.add(&s.r)
			src.last = a.d.DeliveryTag
			s.d = driver.Delivery{Message: &s.m, Partition: src.partition, Receipt: &s.r}
			out = append(out, &s.d)
			r.held++
			r.bytes += a.size
		}
		clear(src.arrived[:count])
		if count == len(src.arrived) {
			src.arrived = src.arrived[:0] // the room is used again
		} else {
			src.arrived = src.arrived[count:]
		}
	}
	if len(r.sources) > 0 {
		r.turn = (r.turn + 1) % len(r.sources)
	}
	r.mu.Unlock()
	for i, d := range out {
		if !r.c.opts.Classic {
			d.Attempt = attemptOf(&raw[i])
		}
		d.Fault = decode(d.Message, r.s.Channel.Name, &raw[i])
	}
	clear(raw)
	r.raw = raw[:0]
	return out
}

// fitting is how many of what has come, at most max, fit the window in bytes: one
// in any case where nothing is in hand.
func (r *receiver) fitting(arrived []arrival, max int) (n int) {
	if r.s.WindowBytes <= 0 {
		return min(max, len(arrived))
	}
	for bytes := r.bytes; n < min(max, len(arrived)); n++ {
		if bytes += arrived[n].size; bytes > r.s.WindowBytes && r.held+n > 0 {
			break
		}
	}
	return n
}

// Backlog returns how many messages wait for the group: those that the server
// has not delivered, and those that wait here.
func (r *receiver) Backlog(ctx context.Context) (int64, error) {
	doing := "backlog of " + r.s.Group + " of channel " + r.s.Channel.Name
	if err := r.isOpen(); err != nil {
		return 0, err
	}
	s, err := r.c.sub.session()
	if err != nil {
		return 0, err
	}
	var n int64
	for _, src := range r.sources {
		r.mu.Lock()
		queue := src.queue
		r.mu.Unlock()
		var q amqp.Queue
		err := s.with(ctx, func(ch *amqp.Channel) (err error) {
			q, err = ch.QueueDeclarePassive(queue, true, false, false, false, nil)
			return err
		})
		if err != nil {
			return 0, translate(doing, err)
		}
		r.mu.Lock()
		src.alone = q.Consumers <= 1
		n += int64(q.Messages + len(src.arrived))
		r.mu.Unlock()
	}
	return n, nil
}
