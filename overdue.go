package dovetail

import (
	"fmt"
	"sync"
	"time"
)

// overdue is what the broker does not take of a group consumer's answers and dead
// letters. It is told once, and once when it is over, however many they are.
type overdue struct {
	mu      sync.Mutex
	n, most int       // now, and at most
	rounds  int       // in which some failed
	since   time.Time // zero for none
	channel string
	err     error
	told    bool
}

// note takes in how many are left after some were sent, and how one of them
// failed; it reports whether that is news: several rounds have failed, or all is
// well again.
func (o *overdue) note(n int, failed *outgoing) (news Notice, is bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case n == 0 && o.since.IsZero():
		return news, false
	case n == 0:
		news, is = Notice{Kind: NoticeOutageOver, Channel: o.channel, Count: o.most}, o.told
		o.n, o.most, o.rounds, o.since, o.channel, o.err, o.told = 0, 0, 0, time.Time{}, "", nil, false
		return news, is
	case o.since.IsZero():
		o.since = time.Now()
	}
	o.n, o.most = n, max(o.most, n)
	if failed == nil {
		return news, false
	}
	o.rounds++
	o.channel, o.err = failed.m.Channel, failed.why
	if o.told || o.rounds < 3 {
		return news, false
	}
	o.told = true
	return Notice{Kind: NoticeOutage, Channel: o.channel, Count: n, Err: o.err}, true
}

func (o *overdue) stuck() (slowTask, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slowTask{Stuck{Kind: StuckUnsent, Channel: o.channel, Count: o.n, Since: o.since}, o.err}, o.n > 0
}

// unsent takes note of what is left to send.
func (f *completer) unsent(failed []outgoing) {
	var one *outgoing
	if len(failed) > 0 {
		one = &failed[0]
	}
	n, is := f.b.overdue.note(len(f.late)+len(f.due), one)
	if !is {
		return
	}
	n.Group = f.b.group
	s := f.b.s
	if n.Err != nil {
		n.Err = fmt.Errorf("the broker does not take answers or dead letters, whose messages stay unsettled: %w: %s", n.Err, s.stuckText(s.conn.Classify(n.Err), n.Channel))
	}
	n.quiet = s.broker.isAway()
	s.notice(n)
}
