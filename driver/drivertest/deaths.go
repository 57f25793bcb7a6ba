package drivertest

import (
	"context"
	"fmt"
	"sync"
)

// killed restarts the engine while n messages are sent, so many of each key in a
// Send, and handled.
func (e *env) killed(n, keys, per int) {
	sender := e.conn()
	group := e.group(sender)
	for i := range e.several() {
		group.Join(e.conn(), fmt.Sprint(i))
	}
	batch := per * keys
	dying, sent := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(sent)
		for i := 0; i < n; i += batch {
			if i >= 2*n/3 {
				<-dying // so that some are still to be sent
			}
			if err := group.Send(context.Background(), sender, Numbered(group.s.Channel.Name, "k", i, min(n, i+batch), keys)); err != nil {
				e.Errorf("batch at %d: %v", i, err)
				return
			}
		}
	}()
	defer func() { <-sent }()
	die := sync.OnceFunc(func() { close(dying) })
	defer die()
	group.more(n / 3)
	die()
	e.restart()
	<-sent
	if e.Failed() {
		return
	}
	group.Check()
}

func testServerKilled(e *env) { e.killed(2*e.h.Many, 50, e.batch(4)) }

// testProcessKilled kills the oldest of the consuming processes in the midst of
// its work.
func testProcessKilled(e *env) {
	c := e.conn()
	group := e.group(c)
	stop := e.feed(group, c)
	ps := group.processes(e.h.URL)
	var names []string
	for range e.several() {
		names = append(names, ps.start())
	}
	works := func(instance string) {
		group.until(instance+" to be at work", func() bool { return group.recorder.by[instance] >= 50 })
	}
	for kills := range 3 {
		works(names[kills])
		ps.kill()
		names = append(names, ps.start())
	}
	works(names[len(names)-1])
	stop()
	group.Check()
	ps.end()
	group.checkMarked()
}
