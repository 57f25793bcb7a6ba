package dovetail

import "sync"

// A pool counts the workers of a scheduler. A worker starts when there is
// something to do and none waits, up to most at once, and ends when it has had
// nothing to do between two calls of trim. The scheduler's mutex guards it.
type pool struct {
	more    sync.Cond // something is ready, closing or surplus changed
	start   func()    // starts a worker
	most    int
	workers int
	idle    int // of them wait
	least   int // fewest that waited at once since the last trim
	surplus int // how many of those that wait are to end
	closing bool
}

// wake wakes a worker that waits, or starts one.
func (p *pool) wake() {
	switch {
	case p.idle > 0:
		p.more.Signal()
	case p.workers < p.most && !p.closing:
		p.workers++
		p.start()
	}
}

// wait waits to be woken, and reports whether the worker is one too many.
func (p *pool) wait() (surplus bool) {
	p.idle++
	p.more.Wait()
	p.idle--
	p.least = min(p.least, p.idle)
	if p.surplus > 0 {
		p.surplus--
		return true
	}
	return false
}

// left counts a worker out that ends.
func (p *pool) left() { p.workers-- }

// trim ends the workers that have waited since the last call.
func (s *scheduler) trim() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ready.head == nil {
		s.pool.surplus = s.pool.least
		for range s.pool.surplus {
			s.pool.more.Signal()
		}
	}
	s.pool.least = s.pool.idle - s.pool.surplus
}
