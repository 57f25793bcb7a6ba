package drivertest

import (
	"context"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
)

// A member is one receiver of a group and what becomes of its deliveries: they are
// handled one after the other, as in a lane, and acknowledged. Partitions that it
// loses are released when what had begun is settled; a receiver that stays broken
// is opened again.
type member struct {
	conn driver.Conn
	s    driver.Subscription
	note func(...*driver.Delivery)
	fail func(format string, args ...any)
	each time.Duration // what handling a batch takes
	most int           // at most so many are settled at once; 0 for a batch

	busy sync.Mutex // held while a batch is handled
	lost sync.Map   // partition → being given up
}

// memberTime bounds what a member does when it is told to stop, or its link is away.
const memberTime = 10 * time.Second

// passing reports whether a kind of error is one of a link that is away or was
// closed.
func passing(k driver.Kind) bool { return k == driver.Retryable || k == driver.Closed }

// work goes on until ctx ends or the connection is closed.
func (h *member) work(ctx context.Context) {
	s := h.s
	for ctx.Err() == nil {
		r, err := h.conn.OpenReceiver(ctx, s)
		if err != nil {
			switch k := h.conn.Classify(err); {
			case ctx.Err() != nil || k == driver.Closed:
				return
			case k != driver.Retryable:
				h.fail("open receiver: %v", err)
				return
			}
			backoff.Sleep(ctx, 50*time.Millisecond)
			continue
		}
		s.Resume = s.Broadcast
		quit := make(chan struct{})
		var wg sync.WaitGroup
		if rv, ok := r.(driver.Revoker); ok {
			wg.Go(func() { h.revoke(rv, quit) })
		}
		again := h.receive(ctx, r)
		bounded, cancel := context.WithTimeout(context.Background(), memberTime)
		if err := r.Close(bounded); err != nil && bounded.Err() == nil && !passing(h.conn.Classify(err)) {
			h.fail("close receiver: %v", err)
		}
		cancel()
		close(quit)
		if wg.Wait(); !again {
			return
		}
	}
}

// receive handles what comes until ctx ends, or r stays broken and another might
// not.
func (h *member) receive(ctx context.Context, r driver.Receiver) (again bool) {
	for failed := 0; failed < 5; {
		ds, err := r.Receive(ctx, 64)
		if err == nil {
			failed = 0
			h.handle(r, ds)
			continue
		}
		switch k := h.conn.Classify(err); {
		case ctx.Err() != nil || k == driver.Closed:
			return false
		case k != driver.Retryable:
			h.fail("receive: %v", err)
			return false
		}
		failed++
		backoff.Sleep(ctx, time.Duration(failed)*20*time.Millisecond)
	}
	return true
}

func (h *member) handle(r driver.Receiver, ds []*driver.Delivery) {
	h.busy.Lock()
	defer h.busy.Unlock()
	if h.each > 0 {
		backoff.Sleep(context.Background(), h.each)
	}
	for most := h.most; len(ds) > 0; {
		if h.most == 0 {
			most = len(ds)
		}
		var ss []driver.Settlement
		for _, d := range ds[:most] {
			if _, gone := h.lost.Load(d.Partition); gone {
				continue // what has not begun is dropped
			}
			h.note(d)
			ss = append(ss, driver.Settlement{Delivery: d})
		}
		ds = ds[most:]
		ctx, cancel := context.WithTimeout(context.Background(), memberTime)
		if err := r.Settle(ctx, ss); err != nil && !isStale(err) && !passing(h.conn.Classify(err)) {
			h.fail("settle: %v", err)
		}
		cancel()
	}
}

// revoke releases partitions until quit, or the end of the receiver.
func (h *member) revoke(r driver.Revoker, quit <-chan struct{}) {
	for {
		select {
		case parts, ok := <-r.Revoked():
			if !ok {
				return
			}
			for _, p := range parts {
				h.lost.Store(p, true)
			}
			h.busy.Lock()
			for _, p := range parts {
				h.lost.Delete(p)
			}
			ctx, cancel := context.WithTimeout(context.Background(), memberTime)
			if err := r.Release(ctx, parts); err != nil && !passing(h.conn.Classify(err)) {
				h.fail("release: %v", err)
			}
			cancel()
			h.busy.Unlock()
		case <-quit:
			return
		}
	}
}
