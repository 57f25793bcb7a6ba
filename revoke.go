package dovetail

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
)

// revoke hands back partitions that the broker gives to another instance: what
// has not begun is dropped, and each partition is released when what has begun
// of it is settled.
func (src *source) revoke(ctx context.Context) {
	var leaving sync.WaitGroup
	defer leaving.Wait()
	src.leaving = make(map[int]*exit)
	for {
		r, receive := src.receiving()
		revoker, ok := r.(driver.Revoker)
		if !ok {
			return
		}
		select {
		case lost, ok := <-revoker.Revoked():
			if ok {
				src.giveUp(ctx, &leaving, revoker, lost)
				continue
			}
		case <-receive.Done():
		case <-ctx.Done():
			return
		}
		// The receiver is closed: another follows, or the service ends.
		if !backoff.Sleep(ctx, 10*time.Millisecond) {
			return
		}
	}
}

// giveUp drops what has not begun of lost partitions. Those of which nothing has
// begun are released at once, and each of the others by itself.
func (src *source) giveUp(ctx context.Context, leaving *sync.WaitGroup, r driver.Revoker, lost []int) {
	src.notice(Notice{Kind: NoticeRevoke})
	exits := make(map[int]*exit, len(lost))
	for _, p := range lost {
		exits[p] = newExit()
		if last := src.leaving[p]; !last.isEmpty() {
			exits[p].before = last
		}
	}
	resume := src.pause() // what was received before they were lost is to be dropped as well
	src.sink.drop(func(t *item) *exit {
		if t.from != src {
			return nil
		}
		return exits[t.delivery.Partition]
	})
	resume()
	var free []int
	for p, e := range exits {
		e.out()
		if e.isEmpty() {
			free = append(free, p)
			delete(src.leaving, p)
			continue
		}
		src.leaving[p] = e
		leaving.Go(func() {
			if src.await(ctx, p, e) {
				src.give(ctx, r, p)
			}
		})
	}
	if slices.Sort(free); len(free) > 0 {
		leaving.Go(func() { src.give(ctx, r, free...) })
	}
}

// await waits until what has begun of a partition is settled, at most for as
// long as the options say. What has not ended then is not settled: the next
// owner of the partition is given it again, and an inbox tells.
func (src *source) await(ctx context.Context, partition int, e *exit) bool {
	t := time.NewTimer(src.s.opts.RevokeTimeout)
	defer t.Stop()
	for last := e; last != nil; last = last.before { // lost again before the last time was over
		select {
		case <-last.empty:
			continue
		case <-ctx.Done():
			return false
		case <-t.C:
		}
		n := 0
		for ; last != nil; last = last.before {
			n += src.sink.abandon(last)
		}
		src.notice(Notice{Kind: NoticeRevoke, Err: fmt.Errorf("partition %d is released while %d handlers of its messages still run, after %v (Options.RevokeTimeout): another instance handles these messages again",
			partition, n, src.s.opts.RevokeTimeout)})
		break
	}
	return true
}

// give releases partitions.
func (src *source) give(ctx context.Context, r driver.Revoker, partitions ...int) {
	if err := r.Release(ctx, partitions); err != nil && ctx.Err() == nil {
		src.notice(Notice{Kind: NoticeRevoke, Err: err})
	}
}
