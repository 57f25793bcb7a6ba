package outbox

import "sync/atomic"

// A look is one goroutine's search for messages that are due. It counts from the
// beginning of a term until the store has said that there are none, and again
// from each search until its end.
type look struct {
	count *atomic.Int64
	on    bool
}

// counted is a look that was counted before its goroutine began.
func counted(n *atomic.Int64) *look { return &look{n, true} }

func (l *look) begin() {
	if !l.on {
		l.on = true
		l.count.Add(1)
	}
}

func (l *look) end() {
	if l.on {
		l.on = false
		l.count.Add(-1)
	}
}
