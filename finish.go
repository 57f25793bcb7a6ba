package dovetail

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/internal/crash"
)

// finisher answers and settles what the handlers are done with, in batches: while
// one batch is on its way, the next gathers. Answers and dead letters are sent
// before their messages are settled, so that a crash in between repeats a
// message and loses none. They are sent beside the settling, which does not wait
// for them, and what the broker does not take is tried again.
type finisher struct {
	b *inbound

	spare       []*task
	settlements map[*source][]driver.Settlement

	todo errand      // for the next errand
	late errand      // failed, and to be tried again after a while
	back chan errand // the one under way, when it is
	out  bool        // one is under way

	rounds int // in which late ones were tried, since there were none
}

// An errand is what must be done before messages are settled, and takes as long
// as the broker or a database does: sending answers and dead letters, then
// telling of the dead letters who asked for it. Consequences of one task are side
// by side.
type errand struct {
	due    []consequence
	untold []*task // whose consequences are sent
	over   []*task // of which nothing is left to do: to be settled
}

func (e *errand) add(o errand) {
	e.due, e.untold = append(e.due, o.due...), append(e.untold, o.untold...)
}

func (e *errand) empty() bool { return len(e.due)+len(e.untold) == 0 }

// run works until stop is closed and nothing is left to settle. Once the
// handlers' contexts have ended, what failed is not tried again: it stays
// unsettled and is delivered again.
func (f *finisher) run(ctx context.Context, ended, stop <-chan struct{}) {
	f.settlements = make(map[*source][]driver.Settlement)
	f.back = make(chan errand, 1)
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	for stopped, timed := false, false; !stopped || f.out; {
		select {
		case <-f.b.sched.finish:
			f.round(ctx)
		case e := <-f.back:
			f.out = false
			f.late.add(e)
			f.settle(ctx, e.over)
		case <-again.C:
			timed = false
			f.todo.add(f.late)
			f.late = errand{}
		case <-ended:
			ended = nil
		case <-stop:
			stopped, stop, ended = true, nil, nil
			f.round(ctx)
		}
		if stopped {
			f.leave(&f.todo)
		}
		if ended == nil {
			f.leave(&f.late)
		}
		f.begin(ctx)
		switch {
		case !f.late.empty() && !timed:
			timed = true
			f.rounds++
			again.Reset(reopenPolicy.Wait(f.rounds))
		case f.late.empty() && !f.out:
			f.rounds = 0
		}
	}
}

// round settles what was done since the last one, or puts it on the next errand.
func (f *finisher) round(ctx context.Context) {
	tasks := f.b.sched.takeDone(f.spare)
	ready := tasks[:0]
	for _, t := range tasks {
		n := len(f.todo.due)
		f.todo.due = f.b.consequences(f.todo.due, t)
		switch t.unsent = len(f.todo.due) - n; {
		case t.unsent > 0:
		case t.verdict == bury:
			f.todo.untold = append(f.todo.untold, t)
		default:
			ready = append(ready, t)
		}
	}
	f.settle(ctx, ready)
	clear(tasks)
	f.spare = tasks
}

// begin begins the next errand, one at a time.
func (f *finisher) begin(ctx context.Context) {
	if f.out || f.todo.empty() {
		return
	}
	e := f.todo
	f.todo, f.out = errand{}, true
	go func() { f.back <- f.carryOut(ctx, e) }()
}

// carryOut does what an errand is for. What it returns besides those that are
// over is to be tried again.
func (f *finisher) carryOut(ctx context.Context, e errand) (left errand) {
	left.due = f.send(ctx, e.due)
	sent := e.untold
	for i, c := range e.due {
		if c.of.unsent == 0 && (i == 0 || e.due[i-1].of != c.of) {
			sent = append(sent, c.of)
		}
	}
	deaf := false
	for _, t := range sent {
		if t.verdict == bury && !deaf {
			crash.ConsumerBuried.Pass()
		}
		if t.verdict == bury && (deaf || !f.tell(ctx, t)) {
			deaf = true // what is told is the same database, most likely
			left.untold = append(left.untold, t)
			continue
		}
		left.over = append(left.over, t)
	}
	return left
}

// leave gives up what no errand has done: the service ends.
func (f *finisher) leave(e *errand) {
	for i, c := range e.due {
		if i == 0 || e.due[i-1].of != c.of {
			f.b.sched.settled([]*task{c.of})
		}
	}
	f.b.sched.settled(e.untold)
	*e = errand{}
}

// errandTimeout bounds one attempt at sending answers and dead letters: what a
// channel that is full or a broker that hangs does not take is tried again, and
// the others get their turn.
const errandTimeout = 10 * time.Second

// send sends answers and dead letters once and returns those that are to be
// sent again.
func (f *finisher) send(ctx context.Context, cs []consequence) (left []consequence) {
	if len(cs) == 0 {
		return nil
	}
	s := f.b.s
	s.provisionWaiting(ctx, cs)
	messages := make([]*driver.Message, len(cs))
	for i, c := range cs {
		messages[i] = c.m
	}
	sending, cancel := context.WithTimeout(ctx, errandTimeout)
	err := s.conn.Send(sending, messages)
	cancel()
	why, whole := unconfirmed(err, len(cs))
	if whole && len(cs) > 1 && !s.passes(err) && ctx.Err() == nil { // one of them spoils it for the others
		for i := range cs {
			left = append(left, f.send(ctx, cs[i:i+1])...)
		}
		return left
	}
	for i, c := range cs {
		confirmed := why == nil || why[i] == nil
		if confirmed || ctx.Err() == nil && f.lost(ctx, &c, why[i]) {
			c.of.unsent--
			if c.of.verdict != bury {
				crash.ConsumerReplied.Pass()
			}
			if confirmed && c.letter {
				f.b.told(&c)
			}
			continue
		}
		if c.attempt++; c.attempt == 1 || c.attempt%10 == 0 {
			s.notice(Notice{Kind: NoticeSettle, Channel: f.b.channel.Name, Group: f.b.group, Message: c.m, Attempt: c.attempt, Err: why[i]})
		}
		left = append(left, c)
	}
	return left
}

// unconfirmed tells a batch's error by index, nil where all were confirmed, and
// whether it is about the batch as a whole.
func unconfirmed(err error, n int) (why []error, whole bool) {
	if err == nil {
		return nil, false
	}
	why = make([]error, n)
	var se *SendError
	if errors.As(err, &se) {
		for _, fail := range se.Failures {
			why[fail.Index] = fail.Err
		}
		return why, false
	}
	for i := range why {
		why[i] = err
	}
	return why, true
}

// replyAttempts is after how many attempts an answer is given up whose caller
// would have given up as well.
const replyAttempts = 6

// lost reports whether what was not sent need not be sent any more: an answer
// that the broker refuses, or cannot take for too long. A dead letter is sent
// until it is taken, if need be without what can be done without.
func (f *finisher) lost(ctx context.Context, c *consequence, why error) bool {
	s := f.b.s
	if c.letter {
		switch s.conn.Classify(why) {
		case driver.TooLarge:
			c.m = slimmed(c.m)
		case driver.NotFound: // the broker has lost it
			s.waiting.note(c.m.Channel, false)
			if err := s.Provision(ctx); err != nil {
				s.notice(Notice{Kind: NoticeSettle, Channel: c.m.Channel, Err: err})
			}
		}
		return false
	}
	if s.conn.Classify(why) == driver.TooLarge && !c.lost { // who asked is told so
		c.m, c.lost = f.b.replyLost(c.of, why), true
		return false
	}
	if s.passes(why) && (!c.m.Transient || c.attempt+1 < replyAttempts) {
		return false
	}
	s.notice(Notice{Kind: NoticeLostCaller, Channel: f.b.channel.Name, Group: f.b.group, Message: c.m, Err: why})
	return true
}

// settle tells each source's receiver what became of its deliveries.
func (f *finisher) settle(ctx context.Context, over []*task) {
	for _, t := range over {
		outcome := driver.Ack
		if t.verdict == bury {
			crash.ConsumerTold.Pass()
			outcome = driver.Reject
		}
		f.settlements[t.from] = append(f.settlements[t.from], driver.Settlement{Delivery: t.delivery, Outcome: outcome})
	}
	for src, list := range f.settlements {
		if len(list) == 0 {
			continue
		}
		crash.ConsumerSettling.Pass()
		f.settleWith(ctx, src, list)
		clear(list) // what is settled keeps no memory
		f.settlements[src] = list[:0]
	}
	if len(over) > 0 {
		f.b.sched.settled(over)
	}
}

func (f *finisher) settleWith(ctx context.Context, src *source, list []driver.Settlement) {
	if r, err := src.settle(ctx, list); err != nil {
		f.b.s.notice(Notice{Kind: NoticeSettle, Channel: f.b.channel.Name, Group: f.b.group, Err: err})
		src.renew(r) // where there are no leases, only a closed receiver gives them back
		return
	}
	crash.ConsumerSettled.Pass()
}

// tell tells of a dead letter who asked for it, and reports whether all have
// heard it. A crash before that has the message handled once more, and its dead
// letter made again under the same id; telling first could lose it.
func (f *finisher) tell(ctx context.Context, t *task) bool {
	t.in.mu.Lock()
	todo := t.in.onDead
	t.in.mu.Unlock()
	if len(todo) == 0 {
		return true
	}
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	for _, told := range todo {
		if err := guarded(func() error { return told(ctx) }); err != nil {
			f.b.s.notice(Notice{Kind: NoticeSettle, Channel: f.b.channel.Name, Group: f.b.group, Message: t.in.Message, Err: fmt.Errorf("note the dead letter: %w", err)})
			return false
		}
	}
	return true
}

// tellTimeout bounds how long settling waits for a database that hangs.
const tellTimeout = 10 * time.Second
