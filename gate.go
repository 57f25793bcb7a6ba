package dovetail

import (
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A gate stops handlers that cannot begin, because what they need before is
// away: a database, a free connection. It closes for a handler when an attempt
// ends with NotBegun. What comes to a closed gate waits there, in order of its
// key, for as long as the outage lasts. One message at a time is let through to
// try, those first that have not been tried yet. The first that begins opens
// the gate for all.
//
// A message that cannot begin again after the gate was opened by another is
// itself the cause. It waits alone, and closes nothing.
//
// The scheduler's mutex guards it.
type gate struct {
	s      *scheduler
	subs   map[*subscription]bool // whose handlers cannot begin; nil while the gate is open
	fresh  itemQueue              // wait at the gate
	failed itemQueue              // wait at the gate, and could not begin
	probe  *item                  // let through
	armed  bool                   // the timer will let one through
	timer  *time.Timer
	fails  int // in a row
	cause  error
	news   []gateNews
}

// gateNews is an outage that began, or that is over, or a message that cannot
// begin while others can.
type gateNews struct {
	kind    NoticeKind
	err     error // why handlers could not begin
	tries   int
	count   int // messages that waited at the gate
	message *driver.Message
}

// gatePolicy paces the tries of one gate, and of one message that waits alone.
var gatePolicy = RetryPolicy{First: 50 * time.Millisecond, Max: 2 * time.Second}.withDefaults()

// stops reports whether t has to wait.
func (g *gate) stops(t *item) bool { return g.subs != nil && g.subs[t.sub] && g.probe != t }

// wait has t wait, and its key with it.
func (g *gate) wait(t *item) {
	g.s.hold(t)
	t.state = itemGated
	if t.unready > 0 {
		g.failed.push(t)
	} else {
		g.fresh.push(t)
	}
	if g.probe == nil && !g.armed {
		g.arm(0)
	}
	g.s.signalRoom()
}

// close closes the gate because t's handler could not begin. It reports false
// where t itself is the cause: t waits alone.
func (g *gate) close(t *item) bool {
	t.unready++
	t.in.begun = nil
	switch {
	case g.subs[t.sub]:
		if g.probe == t {
			g.probe = nil
			g.fails++
			g.cause = t.err
			if g.fails == 2 {
				g.news = append(g.news, gateNews{kind: NoticeOutage, err: t.err})
			}
			g.arm(gatePolicy.Wait(g.fails - 1))
		}
	case t.unready > 1:
		g.forget(t)
		t.after = gatePolicy.Wait(t.unready - 1)
		g.news = append(g.news, gateNews{kind: NoticeNotBegun, err: t.err, count: t.unready, message: t.in.Message})
		return false
	case g.subs != nil:
		g.subs[t.sub] = true
	default:
		g.subs = map[*subscription]bool{t.sub: true}
		g.fails, g.cause = 1, t.err
	}
	return true
}

// arm lets one through after d.
func (g *gate) arm(d time.Duration) {
	g.armed = true
	g.timer = time.AfterFunc(d, g.try)
}

// try lets one message through.
func (g *gate) try() {
	s := g.s
	s.mu.Lock()
	defer s.mu.Unlock()
	g.armed = false
	t := g.fresh.head
	if t == nil {
		t = g.failed.head
	}
	if g.subs == nil || g.probe != nil || t == nil {
		return
	}
	t.queue.remove(t)
	s.unhold(t)
	g.probe = t
	t.in.begun = func() { s.begun(t) }
	t.state = itemReady
	s.ready.pushFront(t)
	s.wake()
}

// begun opens the gate: t's handler has begun.
func (s *scheduler) begun(t *item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gate.passed(t)
	s.tellNews()
}

// passed notes that t's handler began.
func (g *gate) passed(t *item) {
	t.unready = 0
	if g.probe == t {
		t.in.begun = nil
		g.open()
	}
}

// forget notes that t is handed back, or waits alone.
func (g *gate) forget(t *item) {
	if g.probe == t {
		g.probe = nil
		t.in.begun = nil
		g.arm(0)
	}
}

// open lets all go on.
func (g *gate) open() {
	waited := g.fresh.n + g.failed.n
	g.subs, g.probe, g.armed = nil, nil, false
	g.timer.Stop()
	for _, q := range []*itemQueue{&g.failed, &g.fresh} {
		for q.head != nil {
			t := q.head
			q.remove(t)
			g.s.unhold(t)
			g.s.makeReady(t)
		}
	}
	if g.fails > 1 {
		g.news = append(g.news, gateNews{kind: NoticeOutageOver, err: g.cause, tries: g.fails, count: waited + 1})
	}
	g.s.wake()
}

// tellNews tells what has happened at the gate, without the mutex.
func (s *scheduler) tellNews() {
	news := s.gate.news
	if len(news) == 0 || s.told == nil {
		return
	}
	s.gate.news = nil
	s.mu.Unlock()
	defer s.mu.Lock()
	for _, n := range news {
		s.told(n)
	}
}

// gateNews tells hooks and log.
func (b *groupConsumer) gateNews(n gateNews) {
	b.s.notice(Notice{Kind: n.kind, Channel: b.channel.Name, Group: b.group, Message: n.message, Attempt: n.tries, Count: n.count, Err: n.err})
}
