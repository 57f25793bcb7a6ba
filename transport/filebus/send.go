package filebus

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// An outgoing is what one Send appends to one log.
type outgoing struct {
	*appendRequest
	ch      *channel
	log     *wal
	indexes []int // in the caller's batch
}

// buffers are recycled once what they hold was appended.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

const maxPooled = 8 << 20

// Send appends messages to the logs of their channels: one write and one fsync
// for each channel, shared with whoever else is sending. It returns when all
// are on disk, or, with SyncOS and on transient channels, written. What it may
// wait for while ctx lives are other processes' locks; the disk itself cannot
// be interrupted.
func (c *Conn) Send(ctx context.Context, messages []*driver.Message) error {
	if err := c.begin(); err != nil {
		return err
	}
	defer c.ops.Done()
	if err := ctx.Err(); err != nil {
		return err
	}
	var failed driver.SendError
	outs := c.encode(ctx, messages, &failed)
	for _, o := range outs {
		if err := o.log.submit(o.appendRequest, len(outs) == 1); err != nil {
			o.appendRequest = &appendRequest{err: err}
		}
	}
	for _, o := range outs {
		if o.done != nil {
			c.await(ctx, o)
		}
		if o.err == nil && o.log != o.ch.log && o.ch.gone() {
			o.appendRequest = &appendRequest{err: errGone} // into the trash
		}
		if o.err != nil {
			if errors.Is(o.err, errGone) {
				c.forget(o.ch)
			}
			for _, i := range o.indexes {
				failed.Fail(i, fmt.Errorf("send to channel %s: %w", o.ch.meta.Name, o.err), o.unknown)
			}
		}
	}
	slices.SortFunc(failed.Failures, func(a, b driver.SendFailure) int { return a.Index - b.Index })
	return failed.OrNil()
}

// encode sorts messages by log, in order, and notes those that cannot be sent.
func (c *Conn) encode(ctx context.Context, messages []*driver.Message, failed *driver.SendError) []*outgoing {
	var outs []*outgoing
	var o *outgoing // the last one used: batches are mostly of one channel
	var now time.Time
	var absent map[string]error // one that comes meanwhile must not take the second of a key
	for i, m := range messages {
		if size := m.Size(); size > c.opts.MaxBytes {
			failed.Fail(i, fmt.Errorf("%w: %d bytes, and max-bytes is %d: send a reference to the data instead, or raise it", driver.ErrTooLarge, size, c.opts.MaxBytes), false)
			continue
		}
		var log *wal
		if o == nil || o.ch.meta.Name != m.Channel || !m.Due.IsZero() || o.log != o.ch.log {
			var ch *channel
			err := absent[m.Channel]
			if err == nil {
				ch, err = c.channel(ctx, m.Channel)
			}
			if err == nil {
				log = ch.log
				if !m.Due.IsZero() {
					if now.IsZero() {
						now = time.Now()
					}
					if m.Due.After(now) {
						log, err = ch.laterLog(ctx)
					}
				}
			}
			if err != nil {
				if absent == nil {
					absent = map[string]error{}
				}
				absent[m.Channel] = err
				failed.Fail(i, err, false)
				continue
			}
			if k := slices.IndexFunc(outs, func(o *outgoing) bool { return o.log == log }); k >= 0 {
				o = outs[k]
			} else {
				o = &outgoing{ch: ch, log: log, appendRequest: &appendRequest{}}
				o.buf = (*buffers.Get().(*[]byte))[:0]
				outs = append(outs, o)
			}
		}
		o.at = append(o.at, len(o.buf))
		o.indexes = append(o.indexes, i)
		m = driver.Foreign(m)
		o.buf = appendRecord(o.buf, m, partitionOf(m.Key, o.log.parts))
	}
	return outs
}

// await waits until o was appended, or for ctx.
func (c *Conn) await(ctx context.Context, o *outgoing) {
	select {
	case <-o.done:
	case <-ctx.Done():
		if o.log.withdraw(o.appendRequest) {
			o.err = ctx.Err()
			return
		}
		select {
		case <-o.done: // came at the same moment
		default:
			// The request goes on without us, in its buffer.
			o.appendRequest = &appendRequest{err: ctx.Err(), unknown: true}
			return
		}
	}
	if b := o.buf; cap(b) <= maxPooled {
		buffers.Put(&b)
	}
}
