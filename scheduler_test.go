package dovetail

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// TestScheduler_keeps_keys_in_order_and_counts_right drives the scheduler by
// chance, as a broker, workers, completer, timers, outages, rebalances and a
// shutdown would, against a model.
func TestScheduler_keeps_keys_in_order_and_counts_right(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for seed := range uint64(300) {
			m := &schedulerModel{t: t, rnd: rand.New(rand.NewPCG(seed, 1)), s: newScheduler(20, 40, 1<<20), running: map[string]*item{}}
			m.src, m.subs = &source{cancel: func() { m.reread.Store(true) }}, []*subscription{{}, {}}
			m.src.wide.Store(seed%2 == 0)
			m.shareKeys()
			for range 50 + m.rnd.IntN(400) {
				m.step()
				synctest.Wait() // what is due at once has happened
				m.check(seed)
				if t.Failed() {
					return
				}
			}
			m.shutdown()
			m.check(seed)
		}
	})
}

// schedulerModel is the broker and all else around a scheduler. The messages of
// a key are numbered; what is handed back is delivered again.
type schedulerModel struct {
	t       *testing.T
	rnd     *rand.Rand
	s       *scheduler
	src     *source
	subs    []*subscription
	keys    [8]modelKey // the last: no key
	running map[string]*item
	busy    []*item
	hand    []*item // delivered, and neither settled nor handed back
	exits   []modelExit
	away    bool
	aside   []*item // set aside
	reread  atomic.Bool
	others  map[claimID]string // keys that another instance claims
}

type modelKey struct {
	next      int // to be delivered
	delivered int // all before it were, at least once
	concluded int // all before it have been handled
}

type modelExit struct {
	e    *exit
	left map[*item]bool
}

func (m *schedulerModel) step() {
	if m.reread.CompareAndSwap(true, false) { // the receiver is opened again
		m.lose(func(*item) bool { return true }, noExit)
	}
	switch m.rnd.IntN(11) {
	case 0, 1, 2:
		m.push()
	case 3, 4, 5:
		m.take()
	case 6, 7:
		m.end()
	case 8:
		<-time.After(time.Duration(m.rnd.IntN(100)) * time.Millisecond)
		synctest.Wait()
	case 9:
		m.settle()
	case 10:
		switch m.rnd.IntN(10) {
		case 3, 4:
			m.heal()
		case 5, 6, 7:
			m.claimOrEnd()
		case 8, 9:
			m.grantOne()
		case 0:
			p := m.rnd.IntN(4)
			m.lose(func(t *item) bool { return t.delivery.Partition == p }, newExit())
		case 1:
			m.lose(func(*item) bool { return true }, noExit)
		case 2:
			m.away = !m.away
		}
	}
}

func (m *schedulerModel) settle() {
	done := m.s.takeDone(nil)
	m.s.settled(done)
	for _, t := range done {
		m.gone(t)
	}
}

// gone notes that an item is out of hand.
func (m *schedulerModel) gone(t *item) {
	m.hand = slices.DeleteFunc(m.hand, func(o *item) bool { return o == t })
	for _, x := range m.exits {
		delete(x.left, t)
	}
}

func (m *schedulerModel) push() {
	n := min(m.s.capacity(), 1+m.rnd.IntN(8))
	ts := make([]*item, n)
	for i := range ts {
		k := m.rnd.IntN(8)
		n := m.keys[k].next
		ts[i] = m.item(k, n)
		if n < m.keys[k].delivered {
			ts[i].delivery.Attempt = 2
		}
		m.keys[k].next, m.keys[k].delivered = n+1, max(n+1, m.keys[k].delivered)
	}
	m.deliver(ts)
}

// item is the nth message of a key as it is delivered.
func (m *schedulerModel) item(k, n int) *item {
	t := &item{from: m.src, size: 10, delivery: &driver.Delivery{Partition: k % 4, Attempt: 1}, sub: m.subs[k%2]}
	t.in.Message = &driver.Message{ID: fmt.Sprintf("%d/%d", k, n), Type: strconv.Itoa(k)}
	if k < 7 {
		t.in.Message.Key = fmt.Sprintf("k%d", k)
	}
	t.delivery.Message = t.in.Message
	t.in.Requeues = n // the number, for the model
	t.letter = n%5 == 0
	return t
}

// heal delivers again what is in hand, or the first of it, as a transport does
// whose link was lost and came back.
func (m *schedulerModel) heal() {
	if len(m.aside) > 0 {
		return // the receiver is opened again
	}
	var ts []*item
	for _, t := range m.hand[:min(len(m.hand), m.s.capacity())] {
		again := m.item(atoi(t.in.Message.Type), t.in.Requeues)
		again.delivery.Attempt = 2
		ts = append(ts, again)
	}
	m.deliver(ts)
}

func (m *schedulerModel) deliver(ts []*item) {
	told := m.s.push(slices.Clone(ts))
	for _, t := range ts {
		if m.isInHand(t) {
			m.hand = append(m.hand, t)
		}
		if m.state(t) == itemDropped {
			m.gone(t)
			m.aside = append(m.aside, t)
			if len(told) == 0 || told[0] != t.delivery {
				m.t.Fatal("a message was set aside that push does not tell of")
			}
			told = told[1:]
		}
	}
	if len(told) > 0 {
		m.t.Fatalf("%d messages more are told than were set aside", len(told))
	}
}

func (m *schedulerModel) isInHand(t *item) bool {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	return t.prevAll != nil || m.s.all.head == t
}

func (m *schedulerModel) key(t *item) *modelKey { return &m.keys[atoi(t.in.Message.Type)] }

func (m *schedulerModel) take() {
	m.s.mu.Lock()
	ts := m.s.begin(nil)
	m.s.mu.Unlock()
	for _, t := range ts {
		key := t.in.Message.Key
		if key != "" {
			if m.running[key] != nil {
				m.t.Fatalf("two of key %s at once", key)
			}
			if n := t.in.Requeues; n > m.key(t).concluded {
				m.t.Fatalf("key %s: %d begins and %d has not been handled", key, n, m.key(t).concluded)
			}
			m.running[key] = t
			if m.s.keys.grantedToOther(key) || t.letter && !t.claim.granted.Load() {
				m.t.Fatalf("%s begins, whose key is another instance's", t.in.Message.ID)
			}
		}
		m.busy = append(m.busy, t)
	}
}

func (m *schedulerModel) end() {
	if len(m.busy) == 0 {
		return
	}
	i := m.rnd.IntN(len(m.busy))
	t := m.busy[i]
	m.busy = append(m.busy[:i], m.busy[i+1:]...)
	delete(m.running, t.in.Message.Key)
	t.result = []result{resultDone, resultDone, resultRetry, resultDeadLetter, resultNotBegun}[m.rnd.IntN(5)]
	if m.away && t.sub == m.subs[0] {
		t.result = resultNotBegun
	}
	t.after = time.Duration(m.rnd.IntN(3)) * 20 * time.Millisecond
	settled := t.result != resultRetry && t.result != resultNotBegun
	if k := m.key(t); settled && !t.abandoned {
		k.concluded = max(k.concluded, t.in.Requeues+1)
	}
	m.s.giveBack([]*item{t})
	if m.state(t) == itemDropped {
		m.gone(t)
		m.handBack(t)
	}
}

func (m *schedulerModel) state(t *item) itemState {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	return t.state
}

func (m *schedulerModel) handBack(t *item) {
	if t.in.Message.Key != "" {
		k := m.key(t)
		k.next = min(k.next, t.in.Requeues)
	}
}

// lose hands back what has not begun; what has is delivered again as well.
func (m *schedulerModel) lose(match func(*item) bool, e *exit) {
	x := modelExit{e, map[*item]bool{}}
	lost := map[*item]bool{}
	for _, t := range m.hand {
		if lost[t] = match(t); lost[t] && (m.state(t) == itemRunning || m.state(t) == itemDone) && t.exit == nil {
			x.left[t] = true
		}
	}
	m.s.drop(func(t *item) *exit {
		if match(t) {
			return e
		}
		return nil
	})
	m.aside = slices.DeleteFunc(m.aside, func(t *item) bool {
		if match(t) {
			m.handBack(t)
			return true
		}
		return false
	})
	for t := range lost {
		if lost[t] {
			m.handBack(t)
			if m.state(t) == itemDropped {
				m.gone(t)
			}
		}
	}
	if e == noExit {
		return
	}
	e.out()
	m.exits = append(m.exits, x)
	if m.rnd.IntN(3) == 0 {
		m.s.abandon(e)
	}
}

func (m *schedulerModel) shutdown() {
	m.s.drain()
	for len(m.busy) > 0 {
		m.end()
		m.s.mu.Lock()
		if m.s.ready.head != nil {
			m.t.Error("a message begins after the drain")
		}
		m.s.mu.Unlock()
	}
	m.settle()
	<-time.After(time.Minute)
	if n := m.s.inHand(); n != 0 {
		m.t.Fatalf("%d in hand after the drain", n)
	}
	m.hand, m.aside = nil, nil
	for _, x := range m.exits {
		clear(x.left)
	}
}

func (m *schedulerModel) check(seed uint64) {
	m.s.mu.Lock()
	defer m.s.mu.Unlock()
	count, bytes, stuck, settling := 0, 0, 0, 0
	live := map[*lane]int{}
	for t := m.s.all.head; t != nil; t = t.nextAll {
		count++
		bytes += t.size
		if t.state == itemDropped {
			m.t.Fatalf("seed %d: a dropped item is in hand", seed)
		}
		if t.state == itemDone {
			settling++
		}
		switch {
		case t.lane != nil:
			live[t.lane]++
			if t.lane.held {
				stuck++
			}
		case t.state == itemHeld, t.state == itemGated:
			stuck++
		}
	}
	if count != m.s.count || bytes != m.s.bytes || stuck != m.s.blocked || settling != m.s.settling {
		m.t.Fatalf("seed %d: count %d, bytes %d, stuck %d, settling %d; want %d, %d, %d, %d", seed,
			m.s.count, m.s.bytes, m.s.blocked, m.s.settling, count, bytes, stuck, settling)
	}
	m.checkKeys(seed)
	for key, l := range m.s.lanes {
		if l.n != live[l] {
			m.t.Fatalf("seed %d: lane %s has %d, want %d", seed, key, l.n, live[l])
		}
	}
	if len(m.aside) != m.s.aside {
		m.t.Fatalf("seed %d: %d are set aside, want %d", seed, m.s.aside, len(m.aside))
	}
	if count > 60 {
		m.t.Fatalf("seed %d: %d in hand, %d of them stuck", seed, count, stuck)
	}
	for _, x := range m.exits {
		select {
		case <-x.e.empty:
			if len(x.left) > 0 {
				m.t.Fatalf("seed %d: an exit is empty with %d to come", seed, len(x.left))
			}
		default:
			if len(x.left) == 0 {
				m.t.Fatalf("seed %d: an exit waits for nothing", seed)
			}
		}
	}
}

func TestScheduler_takes_in_no_more_large_messages_than_fit(t *testing.T) {
	s := newScheduler(256, 1024, 1000)
	push := func(n, size int) {
		ts := make([]*item, n)
		for i := range ts {
			ts[i] = &item{size: size, delivery: new(driver.Delivery)}
			ts[i].in.Message = &driver.Message{}
		}
		s.push(ts)
	}
	push(1, 1)
	if n := s.capacity(); n != 255 {
		t.Errorf("room for %d small messages, want 255", n)
	}
	push(1, 300)
	if n := s.capacity(); n != 2 {
		t.Errorf("room for %d messages of 300 bytes in 699, want 2", n)
	}
	push(2, 300)
	if n := s.capacity(); n != 1 {
		t.Errorf("room for %d messages, want 1 as long as there is any", n)
	}
	push(1, 300)
	if n := s.capacity(); n != 0 {
		t.Errorf("room for %d messages, want none", n)
	}
}

// A broker that is slow to take settlements does not idle the workers, and what
// waits for it is bounded all the same.
func TestScheduler_window_lets_go_of_what_is_handled(t *testing.T) {
	const window, held = 4, 8
	s := newScheduler(window, held, 1<<20)
	var handled []*item
	for handle := range (window + held) / window {
		if n := s.capacity(); n != window {
			t.Fatalf("room for %d messages while %d are to be settled, want %d", n, handle*window, window)
		}
		ts := make([]*item, window)
		for i := range ts {
			ts[i] = &item{size: 1, result: resultDone, delivery: new(driver.Delivery)}
			ts[i].in.Message = &driver.Message{}
		}
		s.push(ts)
		if n := s.capacity(); n != 0 {
			t.Errorf("room for %d messages beside a window of others that are not handled", n)
		}
		for range ts {
			s.giveBack(s.begin(nil))
		}
		handled = append(handled, ts...)
	}
	if n := s.capacity(); n != 0 {
		t.Errorf("room for %d messages while %d are to be settled, want none", n, len(handled))
	}
	s.settled(handled)
	if n := s.capacity(); n != window {
		t.Errorf("room for %d messages once all is settled, want %d", n, window)
	}
}

func TestRetryPolicy_waits_grow_within_their_bounds(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		p := RetryPolicy{
			First:  time.Duration(1 + rnd.Int64N(int64(time.Second))),
			Max:    time.Duration(1 + rnd.Int64N(int64(time.Minute))),
			Factor: 1 + 3*rnd.Float64(),
			Jitter: rnd.Float64(),
		}.withDefaults()
		for attempt := 1; attempt < 100; attempt++ {
			exact := p
			exact.Jitter = -1
			want := exact.Wait(attempt)
			if want > p.Max || want < exact.Wait(max(1, attempt-1)) || want <= 0 {
				t.Fatalf("%+v: wait %v after attempt %d", p, want, attempt)
			}
			got := p.Wait(attempt)
			low, high := float64(want)*(1-p.Jitter)-1, float64(want)*(1+p.Jitter)+1
			if f := float64(got); f < low || f > high {
				t.Fatalf("%+v: wait %v is not within the jitter of %v", p, got, want)
			}
		}
	}
}

func TestRetryPolicy_knows_how_long_it_takes_in_all(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, c := range []struct {
		p    RetryPolicy
		want time.Duration
	}{
		{RetryPolicy{Attempts: 1, First: time.Second}, 0},
		{RetryPolicy{Attempts: 4, First: time.Second, Max: time.Minute}, 7 * time.Second},
		{RetryPolicy{Attempts: 6, First: time.Second, Max: 4 * time.Second}, 15 * time.Second},
		{RetryPolicy{Attempts: 1001, First: time.Millisecond, Factor: 1}, time.Second},
		{RetryPolicy{Attempts: Forever, First: time.Millisecond, Factor: 1}, year},
		{RetryPolicy{Attempts: Forever, First: time.Nanosecond, Factor: 1.0000001}, year},
		{RetryPolicy{Attempts: Forever}, year},
	} {
		c.p.Jitter = -1
		if got := c.p.withDefaults().longest(); got != c.want {
			t.Errorf("%+v: %v, want %v", c.p, got, c.want)
		}
	}
}

func TestNewID_sorts_by_time_and_says_its_version(t *testing.T) {
	seen := make(map[string]bool)
	last := ""
	for range 20000 {
		id := NewID()
		if len(id) != 36 || id[14] != '7' || id[19] < '8' || id[19] > 'b' {
			t.Fatalf("%s is no UUIDv7", id)
		}
		if id <= last || seen[id] {
			t.Fatalf("%s after %s", id, last)
		}
		last, seen[id] = id, true
	}
	if a, b := deriveID([]byte("x"), 0, "ab", "c"), deriveID([]byte("x"), 0, "a", "bc"); a == b || a[14] != '8' {
		t.Errorf("derived %s and %s", a, b)
	}
}
