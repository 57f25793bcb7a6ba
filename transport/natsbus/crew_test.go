package natsbus_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/natsbus"
)

// A crew is several receivers of a group that note what they handle, in the
// order in which they do.
type crew struct {
	t     testing.TB
	drain time.Duration // what handling one batch takes

	mu         sync.Mutex
	next       map[string]int // by key: the number that comes next
	handled    map[string]int // by id
	unmarked   int            // copies that looked like first ones
	inversions []string
	owner      map[int]string // who had the last message of a partition
	changes    int            // of owners
	changed    chan struct{}  // closed and replaced with every change
}

func newCrew(t testing.TB) *crew {
	return &crew{t: t, next: map[string]int{}, handled: map[string]int{}, owner: map[int]string{}, changed: make(chan struct{})}
}

func (w *crew) note(instance string, key, id string, number, partition, attempt int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if was := w.owner[partition]; was != instance {
		w.owner[partition] = instance
		w.changes++
	}
	close(w.changed)
	w.changed = make(chan struct{})
	if w.handled[id]++; w.handled[id] > 1 {
		if attempt == 1 {
			w.unmarked++
		}
		return
	}
	if number != w.next[key] {
		w.inversions = append(w.inversions, fmt.Sprintf("%s: %d, want %d", key, number, w.next[key]))
	}
	w.next[key] = max(w.next[key], number+1)
}

// until waits for a condition on what was handled.
func (w *crew) until(what string, done func() bool) {
	w.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	for {
		w.mu.Lock()
		ok, changed := done(), w.changed
		n := len(w.handled)
		w.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-deadline.C:
			w.t.Fatalf("waited in vain for %s; %d messages were handled", what, n)
		}
	}
}

func (w *crew) await(n int) {
	w.t.Helper()
	w.until(fmt.Sprintf("%d messages", n), func() bool { return len(w.handled) >= n })
}

// check says what went wrong, given that n were sent.
func (w *crew) check(n int) {
	w.t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.handled) != n {
		w.t.Errorf("%d messages were handled, %d were sent", len(w.handled), n)
	}
	if len(w.inversions) > 0 {
		w.t.Errorf("%d of %d first effects out of order, the first: %s", len(w.inversions), n, w.inversions[0])
	}
	copies := 0
	for _, k := range w.handled {
		copies += k - 1
	}
	w.t.Logf("%d messages, %d came again, %d changes of owner", n, copies, w.changes)
}

// A hand is one receiver of a crew, opened anew when it stays broken, as the core
// does.
type hand struct {
	w    *crew
	c    *natsbus.Conn
	s    driver.Subscription
	busy sync.Mutex // held while a batch is handled
	lost sync.Map   // partition → being given up
}

// join has a receiver work until the returned function is called, which closes
// it.
func (w *crew) join(c *natsbus.Conn, s driver.Subscription, instance string) (leave func()) {
	s.Instance = instance
	h := &hand{w: w, c: c, s: s}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { h.work(ctx) })
	leave = sync.OnceFunc(func() { cancel(); wg.Wait() })
	w.t.Cleanup(leave)
	return leave
}

func (h *hand) work(ctx context.Context) {
	for ctx.Err() == nil {
		r, err := h.c.OpenReceiver(ctx, h.s)
		if err != nil {
			if k := h.c.Classify(err); k != driver.Retryable && ctx.Err() == nil {
				h.w.t.Errorf("open receiver: %v", err)
				return
			}
			pause(ctx, 50*time.Millisecond)
			continue
		}
		quit := make(chan struct{})
		var wg sync.WaitGroup
		if rv, ok := r.(driver.Revoker); ok {
			wg.Go(func() { h.revoke(rv, quit) })
		}
		h.receive(ctx, r)
		bounded, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		_ = r.Close(bounded) // its link may be away
		cancel()
		close(quit)
		wg.Wait()
	}
}

// receive handles what comes until ctx ends or r stays broken.
func (h *hand) receive(ctx context.Context, r driver.Receiver) {
	for failed := 0; failed < 5; {
		ds, err := r.Receive(ctx, 64)
		if err != nil {
			if ctx.Err() != nil {
				return
			}
			if k := h.c.Classify(err); k != driver.Retryable {
				h.w.t.Errorf("receive: %v", err)
				return
			}
			failed++
			pause(ctx, 20*time.Millisecond)
			continue
		}
		failed = 0
		h.handle(r, ds)
	}
}

func (h *hand) handle(r driver.Receiver, ds []*driver.Delivery) {
	h.busy.Lock()
	defer h.busy.Unlock()
	if h.w.drain > 0 {
		pause(context.Background(), h.w.drain)
	}
	var ss []driver.Settlement
	for _, d := range ds {
		if _, gone := h.lost.Load(d.Partition); gone {
			continue // what has not begun is dropped
		}
		number, _ := strconv.Atoi(string(d.Message.Body))
		h.w.note(h.s.Instance, d.Message.Key, d.Message.ID, number, d.Partition, d.Attempt)
		ss = append(ss, driver.Settlement{Delivery: d})
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.Settle(ctx, ss); err != nil && h.c.Classify(err) != driver.Retryable {
		h.w.t.Errorf("settle: %v", err)
	}
}

// revoke releases partitions when what had begun is settled, as the core does.
func (h *hand) revoke(r driver.Revoker, quit <-chan struct{}) {
	for {
		select {
		case parts := <-r.Revoked():
			for _, p := range parts {
				h.lost.Store(p, true)
			}
			h.busy.Lock()
			for _, p := range parts {
				h.lost.Delete(p)
			}
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			if err := r.Release(ctx, parts); err != nil && h.c.Classify(err) != driver.Retryable {
				h.w.t.Errorf("release: %v", err)
			}
			cancel()
			h.busy.Unlock()
		case <-quit:
			return
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// keyed returns messages from to to-1 of an endless row over so many keys, each
// key numbered from 0.
func keyed(channel string, from, to, keys int) []*driver.Message {
	ms := make([]*driver.Message, 0, to-from)
	for i := from; i < to; i++ {
		key, n := "k"+strconv.Itoa(i%keys), strconv.Itoa(i/keys)
		ms = append(ms, &driver.Message{Channel: channel, ID: key + "/" + n, Source: "test", Type: "test.numbered.v1", Key: key, Body: []byte(n)})
	}
	return ms
}

// sendAll sends until each is confirmed: what failed, and all behind it, goes
// again under the same ids.
func sendAll(ctx context.Context, c *natsbus.Conn, ms []*driver.Message) error {
	_, err := sendCounting(ctx, c, ms)
	return err
}

// sendCounting is sendAll that says how often a Send failed.
func sendCounting(ctx context.Context, c *natsbus.Conn, ms []*driver.Message) (failed int, err error) {
	for ; len(ms) > 0; failed++ {
		err := c.Send(ctx, ms)
		if err == nil {
			return failed, nil
		}
		var se *driver.SendError
		if errors.As(err, &se) {
			ms = ms[se.Failures[0].Index:]
			err = se.Failures[0].Err
		}
		if k := c.Classify(err); k != driver.Retryable || ctx.Err() != nil {
			return failed, err
		}
		pause(ctx, 20*time.Millisecond)
	}
	return failed, nil
}

// feed sends n messages over so many keys in batches, calling each with how many
// are confirmed.
func feed(t testing.TB, c *natsbus.Conn, channel string, n, keys, batch int, each func(sent int)) {
	t.Helper()
	for i := 0; i < n; i += batch {
		if err := sendAll(within(t), c, keyed(channel, i, min(n, i+batch), keys)); err != nil {
			t.Errorf("send from %d on: %v", i, err)
			return
		}
		if each != nil {
			each(min(n, i+batch))
		}
	}
}
