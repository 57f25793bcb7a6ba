package rabbitbus_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A record is what the consumers of a group handled, in the order in which they
// did. What counts is each message's first copy.
type record struct {
	mu       sync.Mutex
	copies   map[string]int  // by id
	next     map[string]int  // by key: the number that comes next
	inverted []string        // first copies that came before, or after, their turn
	firsts   map[string]bool // ids of which a copy said that it was the first attempt
	unmarked int             // copies that say so beside another
	changed  chan struct{}   // closed and replaced with every note
}

func newRecord() *record {
	return &record{copies: map[string]int{}, firsts: map[string]bool{}, next: map[string]int{}, changed: make(chan struct{})}
}

func (r *record) note(d *driver.Delivery) {
	m := d.Message
	number, err := strconv.Atoi(string(m.Body))
	if err != nil || m.ID != m.Key+"/"+string(m.Body) {
		number = -1 // nobody sent that
	}
	r.add(m.ID, m.Key, number, d.Attempt)
}

func (r *record) add(id, key string, number, attempt int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.changed)
	r.changed = make(chan struct{})
	if attempt == 1 { // it may come last: an owner that lost its connection was still at it
		if r.firsts[id] {
			r.unmarked++
		}
		r.firsts[id] = true
	}
	if r.copies[id]++; r.copies[id] > 1 {
		return
	}
	if want := r.next[key]; number != want {
		r.inverted = append(r.inverted, fmt.Sprintf("%s is handled where number %d is next", id, want))
	}
	r.next[key] = number + 1
}

// handled is how many messages were handled, and what is closed when it may be
// more.
func (r *record) handled() (int, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.copies), r.changed
}

// reached waits until n messages were handled, as long as ctx allows.
func (r *record) reached(ctx context.Context, n int) error {
	for {
		have, changed := r.handled()
		if have >= n {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%d of %d messages were handled: %w", have, n, context.Cause(ctx))
		}
	}
}

// await waits until n messages were handled. It is for the test's own goroutine.
func (r *record) await(t testing.TB, n int) {
	t.Helper()
	if err := r.reached(within(t), n); err != nil {
		t.Fatal(err)
	}
}

// check says what went wrong with n messages, once nobody handles any more.
func (r *record) check(t testing.TB, n int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.inverted) > 0 {
		t.Errorf("%d first copies out of order, of which the first: %s", len(r.inverted), r.inverted[0])
	}
	if len(r.copies) != n {
		t.Errorf("%d different messages were handled, want %d", len(r.copies), n)
	}
	copies := 0
	for _, times := range r.copies {
		copies += times - 1
	}
	t.Logf("%d messages, %d copies beside them", len(r.copies), copies)
}

// checkMarked says how many copies were not marked as such, beyond those of
// messages that were sent twice because their outcome was unknown.
func (r *record) checkMarked(t testing.TB, unknown int) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.unmarked > unknown {
		t.Errorf("%d copies claim to be the first attempt, and %d sends had an unknown outcome", r.unmarked, unknown)
	}
}

// handle receives until ctx ends or the receiver is closed, handles one delivery
// after the other as a lane does, and acknowledges each. What is in hand when
// ctx ends is left to others.
func (r *record) handle(ctx context.Context, t testing.TB, c driver.Conn, rc driver.Receiver, each func(*driver.Delivery)) {
	for ctx.Err() == nil {
		ds, err := rc.Receive(ctx, 50)
		switch kind := c.Classify(err); {
		case err == nil:
		case ctx.Err() != nil || kind == driver.Closed:
			return
		case kind == driver.Retryable:
			pause(ctx, 5*time.Millisecond)
		default:
			t.Errorf("receive: %v", err)
			return
		}
		for _, d := range ds {
			if ctx.Err() != nil {
				return
			}
			r.note(d)
			if each != nil {
				each(d)
			}
			if err := rc.Settle(ctx, []driver.Settlement{{Delivery: d}}); err != nil && ctx.Err() == nil {
				if kind := c.Classify(err); kind != driver.Retryable && kind != driver.Closed {
					t.Errorf("settle: %v", err)
				}
			}
		}
	}
}

// consumeAll receives for a new record until n messages were handled, those in
// hand included, and checks it.
func consumeAll(ctx context.Context, t testing.TB, c driver.Conn, rc driver.Receiver, n int, hand ...*driver.Delivery) {
	t.Helper()
	r := newRecord()
	for _, d := range hand {
		r.note(d)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { r.handle(ctx, t, c, rc, nil) })
	if err := r.reached(ctx, n); err != nil {
		t.Error(err)
	}
	stop()
	wg.Wait()
	r.check(t, n)
}

// pause waits before something is tried again.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
