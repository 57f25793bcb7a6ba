package dovetail

import (
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// broker is what a service's receivers know of the connection that they share:
// an outage of it is told once, and once that it is over, however many they are.
type broker struct {
	s *Service

	mu    sync.Mutex
	who   map[any]bool         // cannot reach it
	all   map[any]bool         // could not, in this outage
	kinds map[driver.Kind]bool // of errors that were told
	since time.Time            // it began
	err   error                // the latest
}

// away notes that who cannot reach the broker. The first, and the first with an
// error of another kind, is told.
func (b *broker) away(who any, kind driver.Kind, n Notice) {
	b.mu.Lock()
	if b.who == nil {
		b.who, b.all, b.kinds = make(map[any]bool), make(map[any]bool), make(map[driver.Kind]bool)
		b.since = time.Now()
	}
	b.err = n.Err
	first := !b.kinds[kind]
	b.who[who], b.all[who], b.kinds[kind] = true, true, true
	b.mu.Unlock()
	n.quiet = true
	b.s.notice(n)
	if first {
		b.s.notice(Notice{Kind: NoticeOutage, Channel: n.Channel, Group: n.Group, Err: n.Err})
	}
}

// back notes that who reaches the broker.
func (b *broker) back(who any) {
	b.mu.Lock()
	if !b.who[who] {
		b.mu.Unlock()
		return
	}
	delete(b.who, who)
	n := len(b.all)
	over := len(b.who) == 0
	if over {
		b.who, b.all, b.kinds, b.err = nil, nil, nil, nil
	}
	b.mu.Unlock()
	if over {
		b.s.notice(Notice{Kind: NoticeOutageOver, Count: n})
	}
}

func (b *broker) isAway() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.who) > 0
}
