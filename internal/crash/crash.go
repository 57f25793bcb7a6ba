// Package crash names every step of writer, relay, inbox and consumer at which
// a test kills its own process, to see what a crash there loses or repeats.
//
// The points are declared in points.go and nowhere else. One that no code
// passes, or whose part no test kills at, breaks a rule of package house.
package crash

import (
	"os"
	"sync/atomic"
	"syscall"
)

// A Part is whose step a point is.
type Part string

// The parts. A test that kills at a part's points takes them from [Points], so
// that none is left out.
const (
	Writer   Part = "writer"   // outbox.Box.Do and what it asks of the store
	Relay    Part = "relay"    // from the outbox to the transport
	Inbox    Part = "inbox"    // a handler's transaction
	Consumer Part = "consumer" // the run loop
)

// A Point is a step that a process can die at.
type Point struct {
	Part Part
	Name string // "relay.sent"
	Done string // what has happened before it
	Risk string // what a crash here may repeat, and what it must not lose
}

var (
	all  []*Point
	hook atomic.Pointer[func(*Point)]
)

// point declares a point.
func point(p Part, name, done, risk string) *Point {
	all = append(all, &Point{Part: p, Name: string(p) + "." + name, Done: done, Risk: risk})
	return all[len(all)-1]
}

// Pass is called where the program takes the step. Without a test that asked for
// it, it costs an atomic load.
func (p *Point) Pass() {
	if h := hook.Load(); h != nil {
		(*h)(p)
	}
}

// Points are the declared points of a part, in the order of its work.
func Points(p Part) (points []*Point) {
	for _, c := range all {
		if c.Part == p {
			points = append(points, c)
		}
	}
	return points
}

// At has f called with each point that is passed, until it is called with nil.
func At(f func(*Point)) {
	if f == nil {
		hook.Store(nil)
		return
	}
	hook.Store(&f)
}

// KillAt has the process killed, as by SIGKILL from outside, when it passes a
// point by its name for the so manieth time.
func KillAt(name string, times int) {
	var passed atomic.Int64
	At(func(p *Point) {
		if p.Name == name && passed.Add(1) == int64(times) {
			kill()
		}
	})
}

// kill ends the process: nothing that is deferred, buffered or waited for
// happens any more.
func kill() {
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Signal(syscall.SIGKILL) // where there is no such signal, the caller goes on and its test says so
	}
	select {} // the signal is on its way
}
