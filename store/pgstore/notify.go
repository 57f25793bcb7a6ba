package pgstore

import (
	"context"
	"crypto/rand"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail/store"
)

// notifier sends notices, at most one at a time, from a goroutine that is there
// while there is something to say.
type notifier struct {
	mu      sync.Mutex
	running bool
	again   bool
	stopped bool
	ended   sync.WaitGroup
	quit    chan struct{}
	self    string
}

// tell tells relays in other processes that something was written. It costs a
// transaction of its own, and not the service's: a NOTIFY within that would have
// all writers wait in line for their commits. Where this process has the leases
// there is nobody to tell.
func (c *core) tell() {
	if clock().UnixNano() < c.leads.Load() {
		return
	}
	n := &c.notice
	n.mu.Lock()
	defer n.mu.Unlock()
	switch {
	case n.stopped:
	case n.running:
		n.again = true
	default:
		n.running = true
		n.start()
		n.ended.Go(func() { c.sendNotices(n.quit) })
	}
}

func (n *notifier) start() {
	if n.quit == nil {
		n.quit = make(chan struct{})
		n.self = rand.Text()
	}
}

// noticeSQL sends a notice if somebody leads. Nothing is lost with one that a
// crash takes away.
const noticeSQL = `SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)
	WHERE EXISTS (SELECT FROM ~lease WHERE name LIKE 'relay/%' AND until > clock_timestamp())`

// nobodyPause is how far notices are apart while nobody leads: whoever begins to
// looks by itself.
const nobodyPause = 100 * time.Millisecond

func (c *core) sendNotices(quit <-chan struct{}) {
	n := &c.notice
	for {
		// Without a notice the relays find what was written with their next
		// poll, so an error is none of the writer's business.
		ctx, cancel := context.WithTimeout(context.Background(), min(c.opts.Timeout, endTime))
		sent, err := c.beside.Exec(ctx, c.sql(noticeSQL), c.topic, n.self)
		cancel()
		pause := c.opts.Notify
		if err == nil && sent.RowsAffected() == 0 {
			pause = max(pause, nobodyPause)
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-quit:
			timer.Stop()
		}
		n.mu.Lock()
		if !n.again || n.stopped {
			n.running = false
			n.mu.Unlock()
			return
		}
		n.again = false
		n.mu.Unlock()
	}
}

// stop waits until nothing is being sent.
func (n *notifier) stop() {
	n.mu.Lock()
	if !n.stopped {
		n.stopped = true
		n.start()
		close(n.quit)
	}
	n.mu.Unlock()
	n.ended.Wait()
}

// listenPing is how often a listening connection is tried, since nothing else
// tells that its other end is gone.
const listenPing = 20 * time.Second

// Listen notifies the Signal of what other processes write. It takes a
// connection for itself. A pooler that gives connections away by the
// transaction cannot carry it; then there is the poll.
func (c *core) Listen(ctx context.Context, begun func()) error {
	if err := store.Networked(); err != nil {
		return fail("listen", err)
	}
	conn, err := c.listener(ctx)
	if err != nil {
		return fail("listen", err)
	}
	begun()
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
		defer cancel()
		_ = conn.Close(end) // it is over either way
	}()
	c.notice.mu.Lock()
	c.notice.start()
	self := c.notice.self
	c.notice.mu.Unlock()
	c.signal.Notify() // something may have been written before
	for {
		wait, cancel := context.WithTimeout(ctx, listenPing)
		n, err := conn.WaitForNotification(wait)
		late := wait.Err() != nil && ctx.Err() == nil
		cancel()
		switch {
		case err == nil && n.Payload != self:
			c.signal.Notify()
		case err == nil:
		case late:
			ping, cancel := context.WithTimeout(ctx, endTime)
			err := conn.Ping(ping)
			cancel()
			if err != nil {
				return fail("listen", err)
			}
		default:
			return fail("listen", err)
		}
	}
}

// listener takes a connection out of the pool, which makes another.
func (c *core) listener(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := c.bound(ctx)
	defer cancel()
	pooled, err := c.beside.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := pooled.Exec(ctx, `LISTEN `+pgx.Identifier{c.topic}.Sanitize()); err != nil {
		pooled.Release()
		return nil, err
	}
	return pooled.Hijack(), nil
}
