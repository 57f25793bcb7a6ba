package drivertest

import (
	"fmt"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
)

// A recorder is what was sent, where somebody noted it, and what a set of
// consumers handled, in the order in which they did. What counts is the first
// copy of each message: its effect.
type recorder struct {
	mu       sync.Mutex
	sent     map[string]*driver.Message // by channel and id
	count    map[string]int             // by channel, group and id
	first    map[string]int             // the same, copies that claimed to be the first attempt
	next     map[string]int             // by channel, group and key: the number that comes next
	by       map[string]int             // how many each instance handled
	owner    map[int]string             // who handled the last message of a partition
	changes  int                        // of owners
	invert   []string                   // first copies that came out of order
	invented []string                   // what came and was not sent, or not so
	dupes    int                        // copies after the first
	unmark   int                        // of them, those that claimed to be the first as well
	changed  chan struct{}              // closed and replaced with every change
}

func newRecorder() *recorder {
	return &recorder{sent: map[string]*driver.Message{}, count: map[string]int{}, first: map[string]int{}, next: map[string]int{},
		by: map[string]int{}, owner: map[int]string{}, changed: make(chan struct{})}
}

// send notes what is about to be sent.
func (l *recorder) send(ms []*driver.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range ms {
		l.sent[m.Channel+"|"+m.ID] = m
	}
}

// note notes what an instance of group handles.
func (l *recorder) note(instance, group string, ds ...*driver.Delivery) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range ds {
		m := d.Message
		l.by[instance]++
		if l.owner[d.Partition] != instance {
			l.owner[d.Partition] = instance
			l.changes++
		}
		if was := l.sent[m.Channel+"|"+m.ID]; len(l.sent) > 0 && (was == nil || was.Key != m.Key || string(was.Body) != string(m.Body)) {
			l.invented = append(l.invented, fmt.Sprintf("%s with key %q and body %q", m.ID, m.Key, m.Body))
		}
		id := m.Channel + "|" + group + "|" + m.ID
		if d.Attempt == 1 { // it may come last: an owner that lost its link was still at it
			if l.first[id]++; l.first[id] > 1 {
				l.unmark++
			}
		}
		if l.count[id]++; l.count[id] > 1 {
			l.dupes++
			continue
		}
		if m.Key == "" {
			continue
		}
		key := m.Channel + "|" + group + "|" + m.Key
		if n, want := number(m), l.next[key]; n != want {
			l.invert = append(l.invert, fmt.Sprintf("%s: %d, want %d", key, n, want))
		}
		l.next[key] = number(m) + 1
	}
	l.tell()
}

// tell wakes those who wait for a change. It is called with the lock held.
func (l *recorder) tell() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// unique returns how many messages were handled, copies left out, and what to
// wait on for it to change.
func (l *recorder) unique() (int, <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.count), l.changed
}

// faults says what is wrong once one group has handled all that was sent.
func (l *recorder) faults(group string, ordered bool) (wrong []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	some := func(what string, all []string) {
		if len(all) > 0 {
			wrong = append(wrong, fmt.Sprintf("%d of %d %s: %s", len(all), len(l.sent), what, all[0]))
		}
	}
	var lost []string
	for id, m := range l.sent {
		if l.count[m.Channel+"|"+group+"|"+m.ID] == 0 {
			lost = append(lost, id)
		}
	}
	some("messages were sent and not handled, such as", lost)
	some("messages were handled and not sent like that, the first", l.invented)
	if ordered {
		some("first effects out of order, the first", l.invert)
	}
	return wrong
}
