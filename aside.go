package dovetail

import "github.com/dovetail-go/dovetail/driver"

// A key whose first message is held has at most a share of what is in hand. What
// comes beyond it is set aside: it stays unsettled at the broker, nothing of it
// is kept here, and the receiver's window is raised by it, so that other keys go
// on. When the last message of the key that is in hand has left, the receiver is
// opened again: all that is unsettled is then delivered again, in order. Receivers
// that cannot be widened have no shares.

// filled reports whether a held key has its share in hand: a quarter of what may be.
func (s *scheduler) filled(l *lane) bool {
	return l.n >= max(1, (s.window+s.held)/4) || l.bytes >= s.maxBytes/4
}

// mostAside is how many times what may be in hand is set aside at most.
const mostAside = 8

// asideFull reports whether nothing more can be set aside. It is false while a lane has
// nothing left in hand: its receiver must be opened again, by the goroutine that
// receives, which must not wait for room before.
func (s *scheduler) asideFull() bool {
	if s.aside < mostAside*(s.window+s.held) && s.asides < mostAside*s.maxBytes {
		return false
	}
	for l := range s.cuts {
		if l.head == nil {
			return false
		}
	}
	return true
}

// setAside reports whether t is set aside rather than taken in.
func (s *scheduler) setAside(t *item) bool {
	l := s.lanes[t.in.Message.Key]
	if l == nil || l.key == "" || !t.from.canWiden() {
		return false
	}
	switch {
	case l.cut != nil && l.cut.from != t.from: // letters have an order of their own
		return false
	case l.cut == nil && (!l.failed || !s.filled(l)):
		return false
	case l.cut == nil:
		l.cut = t
		if s.cuts == nil {
			s.cuts = make(map[*lane]bool)
		}
		s.cuts[l] = true
	}
	l.aside++
	s.aside++
	l.asides += t.size
	s.asides += t.size
	t.state = itemDropped
	return true
}

// takeBack forgets what was set aside of the sources or partitions for which of returns
// an exit: the engine redelivers it.
func (s *scheduler) takeBack(of func(*item) *exit) {
	for l := range s.cuts {
		if of(l.cut) == nil {
			continue
		}
		delete(s.cuts, l)
		s.aside -= l.aside
		s.asides -= l.asides
		l.cut, l.aside, l.asides = nil, 0, 0
		if l.head == nil {
			s.endLane(l)
		}
	}
}

// canWiden reports whether what is set aside of the source comes again, and its
// receiver can be widened. A transient channel delivers nothing again.
func (src *source) canWiden() bool {
	return src != nil && src.wide.Load() && !src.sub.Channel.Transient
}

// widen raises the window of the receiver by what was set aside.
func (src *source) widen(aside []*driver.Delivery) {
	if w, ok := src.taken.(driver.Widener); ok && len(aside) > 0 {
		src.aside.Store(true)
		w.Widen(aside)
	}
}

// reread has the receiver opened again.
func (src *source) reread() { src.renew(src.current()) }
