package rabbitbus

import (
	"context"
	"errors"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// The queue of a transient point-to-point channel, as of a service's replies, is a
// classic queue: it is with one node, its home. While that is gone, nobody can use
// the queue, nor remove it or make another of that name. Receivers then go on with
// another name, and senders send to all of them: where there is no queue, the server
// drops the copy.

// homes are the names of the queue, in the order in which receivers try them.
func homes(channel string) []string { return []string{channel, channel + "::2", channel + "::3"} }

// copiesHeader has the server route a message to further queues. It takes the header
// away.
const copiesHeader = "BCC"

// copies is the value of copiesHeader for a channel.
func copies(channel string) (names []any) {
	for _, name := range homes(channel)[1:] {
		names = append(names, name)
	}
	return names
}

// homeTime is how long the home of a queue may take to answer.
const homeTime = 2 * time.Second

func (c *Conn) homeDeadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, min(homeTime, c.opts.Timeout), errNoAnswer)
}

// homeIsGone reports whether a call failed because the node that has a queue is
// down or does not answer.
func homeIsGone(err error) bool {
	var e *amqp.Error
	return errors.Is(err, errNoAnswer) || errors.As(err, &e) && isAway(e)
}

// hasHome reports whether the channel's queue is with one node.
func (st *channelState) hasHome() bool { return st.transient && st.kind == driver.PointToPoint }

// declareHome makes the queue of a channel, under the first name whose home is not
// gone.
func (c *Conn) declareHome(ctx context.Context, st *channelState) (err error) {
	for _, name := range homes(st.name) {
		short, cancel := c.homeDeadline(ctx)
		err = c.declareQueue(short, name, st)
		cancel()
		if err == nil {
			st.home.Store(&name)
		}
		if err == nil || ctx.Err() != nil || !homeIsGone(err) {
			return err
		}
		c.opts.Logger.Info("rabbitbus: the node of a queue is gone; another takes its place", "queue", name, "error", err)
	}
	return err
}

// homeNow is the name of the queue that receivers of the channel use.
func (st *channelState) homeNow() string {
	if name := st.home.Load(); name != nil {
		return *name
	}
	return st.name
}

// findTransient is channel for a message that nobody misses: where the home of its
// channel's queue is gone, the channel is taken to be what it was.
func (c *Conn) findTransient(ctx context.Context, name string) (*channelState, error) {
	if st := c.chans.get(name); st != nil {
		return st, nil
	}
	st, err := c.findSoon(ctx, name)
	if err == nil {
		c.chans.put(st)
	}
	if err != nil && ctx.Err() == nil && homeIsGone(err) {
		st, err = newState(name, driver.PointToPoint, 0, true), nil
		c.chans.put(st)
	}
	return st, err
}

// findSoon is find with a short deadline.
func (c *Conn) findSoon(ctx context.Context, name string) (*channelState, error) {
	ctx, cancel := c.homeDeadline(ctx)
	defer cancel()
	return c.find(ctx, name)
}
