package drivertest

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
)

var contextTests = map[string]test{
	"Send_whose_context_ends_tells_what_it_does_not_know": {run: testContextEnds},
	"Send_over_a_silent_link_tells_what_it_does_not_know": {run: testContextSilent, gap: needsThrough},
	"Send_ends_with_its_context_over_a_silent_link":       {run: testContextHolds, gap: needsThrough},
}

// names checks that an error says which channel it is about.
func (e *env) names(err error, channel string) {
	e.Helper()
	if !strings.Contains(err.Error(), channel) {
		e.Errorf("%q does not name the channel %s", err, channel)
	}
}

// An answer is what Sends said of each message.
type answers struct {
	notSent   map[string]error
	unknown   map[string]bool
	confirmed map[string]bool
}

func newAnswers() *answers {
	return &answers{notSent: map[string]error{}, unknown: map[string]bool{}, confirmed: map[string]bool{}}
}

func (a *answers) note(ms []*driver.Message, err error) {
	var se *driver.SendError
	whole := err != nil && !errors.As(err, &se)
	for i, m := range ms {
		if whole {
			a.notSent[m.ID] = err
			continue
		}
		failure := driver.SendFailure{Index: -1}
		if se != nil {
			for _, f := range se.Failures {
				if f.Index == i {
					failure = f
				}
			}
		}
		switch {
		case failure.Index < 0:
			a.confirmed[m.ID] = true
		case failure.Unknown:
			a.unknown[m.ID] = true
		default:
			a.notSent[m.ID] = failure.Err
		}
	}
}

// check takes what has come and compares it with what the Sends said.
func (e *env) check(a *answers, r driver.Receiver) {
	e.Helper()
	came := map[string]bool{}
	for missing := len(a.confirmed); ; {
		ctx, cancel := e.within()
		if missing == 0 {
			ctx, cancel = context.WithTimeout(context.Background(), max(e.h.Quiet, 300*time.Millisecond))
		}
		ds, err := r.Receive(ctx, 100)
		ended := ctx.Err() != nil
		cancel()
		if err != nil && !ended && e.classify(r, err) == driver.Retryable {
			continue
		}
		if err != nil && missing == 0 && ended {
			break
		}
		if err != nil {
			e.Fatalf("receive: %v; %d confirmed messages are missing", err, missing)
		}
		for _, d := range ds {
			id := d.Message.ID
			if why, ok := a.notSent[id]; ok {
				e.Fatalf("%s came, and its send had said that it was not sent: %v", id, why)
			}
			if !came[id] && a.confirmed[id] {
				missing--
			}
			came[id] = true
		}
		e.settle(r, driver.Ack, ds...)
	}
	e.Logf("of %d confirmed, %d unknown and %d not sent, %d came", len(a.confirmed), len(a.unknown), len(a.notSent), len(came))
}

// testContextEnds lets the contexts of sends end at any moment of them.
func testContextEnds(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	r := e.receiver(c, s)
	e.send(c, e.message(ch, "first", 0)) // what is made at the first send is there
	e.settle(r, driver.Ack, e.one(r))
	took := time.Duration(0)
	for i := range 5 {
		began := time.Now()
		e.send(c, e.message(ch, "timed", i))
		took = max(took, time.Since(began))
	}
	a := newAnswers()
	for i := range 5 {
		a.confirmed[e.message(ch, "timed", i).ID] = true
	}
	const rounds, size = 60, 4
	for i := range rounds {
		ms := Numbered(ch.Name, "k", i*size, (i+1)*size, size)
		ctx, cancel := context.WithTimeout(context.Background(), 2*took*time.Duration(i)/rounds)
		began := time.Now()
		a.note(ms, c.Send(ctx, ms))
		if late := time.Since(began); late > 2*took+2*time.Second {
			e.Errorf("a send took %v, its context had ended after %v", late, 2*took*time.Duration(i)/rounds)
		}
		cancel()
	}
	e.check(a, r)
}

// testContextSilent lets contexts end while a link is silent: what was written
// may arrive yet.
func testContextSilent(e *env) {
	p, far := e.through()
	c, near := far(), e.conn()
	ch, s := e.queue(near)
	a := newAnswers()
	for i := range 3 {
		ms := Numbered(ch.Name, "k", 12*i, 12*i+4, 4)
		e.sendThrough(c, ms...)
		for _, m := range ms {
			a.confirmed[m.ID] = true
		}
		p.Stall()
		for n := range 2 {
			ms := Numbered(ch.Name, "k", 12*i+4*(n+1), 12*i+4*(n+2), 4)
			ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
			a.note(ms, c.Send(ctx, ms))
			cancel()
		}
		p.Heal()
	}
	e.check(a, e.receiver(near, s))
}

// sendThrough sends over a link that may be coming back.
func (e *env) sendThrough(c driver.Conn, ms ...*driver.Message) {
	e.Helper()
	ctx, cancel := e.within()
	defer cancel()
	for {
		err := c.Send(ctx, ms)
		if err == nil {
			return
		}
		if c.Classify(err) != driver.Retryable || !backoff.Sleep(ctx, 20*time.Millisecond) {
			e.Fatalf("send: %v", err)
		}
	}
}

func testContextHolds(e *env) {
	p, far := e.through()
	c, near := far(), e.conn()
	ch, _ := e.queue(near)
	e.sendThrough(c, e.message(ch, "k", 0))
	p.Stall()
	defer p.Heal()
	for i := range 3 {
		const patience = 200 * time.Millisecond
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		began := time.Now()
		err := c.Send(ctx, []*driver.Message{e.message(ch, "k", i+1)})
		cancel()
		if err == nil {
			e.Fatal("a send over a silent link was confirmed")
		}
		if took := time.Since(began); took > patience+time.Second {
			e.Errorf("a send took %v, its context had ended after %v", took, patience)
		}
	}
}
