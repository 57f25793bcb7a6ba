package dovetail

import (
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// broker is what a service's receivers know of the connection that they share:
// an outage of it is reported once, and once that it is over, however many they are.
type broker struct {
	s *Service

	mu    sync.Mutex
	down  map[any]bool         // who cannot reach it: sources, and the provisioner
	all   map[any]bool         // who could not at some time in this outage
	kinds map[driver.Kind]bool // of errors that were reported
	since time.Time            // it began
	err   error                // the latest
}

// away notes that the reporter cannot reach the broker. The first error, and the first
// of another kind, is reported as an outage.
func (b *broker) away(reporter any, kind driver.Kind, n Notice) {
	b.mu.Lock()
	if b.down == nil {
		b.down, b.all, b.kinds = make(map[any]bool), make(map[any]bool), make(map[driver.Kind]bool)
		b.since = time.Now()
	}
	b.err = n.Err
	first := !b.kinds[kind]
	b.down[reporter], b.all[reporter], b.kinds[kind] = true, true, true
	b.mu.Unlock()
	n.quiet = true
	b.s.notice(n)
	if first {
		b.s.notice(Notice{Kind: NoticeOutage, Channel: n.Channel, Group: n.Group, Err: n.Err})
	}
}

// back notes that the reporter reaches the broker.
func (b *broker) back(reporter any) {
	b.mu.Lock()
	if !b.down[reporter] {
		b.mu.Unlock()
		return
	}
	delete(b.down, reporter)
	n := len(b.all)
	over := len(b.down) == 0
	if over {
		b.down, b.all, b.kinds, b.err = nil, nil, nil, nil
	}
	b.mu.Unlock()
	if over {
		b.s.notice(Notice{Kind: NoticeOutageOver, Count: n})
	}
}

func (b *broker) isAway() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.down) > 0
}
