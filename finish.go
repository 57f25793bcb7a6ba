package dovetail

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/internal/crash"
)

// finisher answers and settles what the handlers are done with, in batches: while
// one batch is on its way, the next gathers. Answers and dead letters are sent
// before their messages are settled, so that a crash in between repeats a
// message and loses none. They are sent beside the settling, which does not wait
// for them, and what the broker does not take is tried again. Dead letters that
// are kept are then noted where that was asked for, beside both.
type finisher struct {
	b *inbound

	spare       []*task
	settlements map[*source]*settlements

	due     []consequence // to be sent next
	late    []consequence // failed, and to be sent again after a while
	sending bool          // some are on their way
	first   noting        // dead letters to be noted
	repeat  noting        // and those whose noting failed before, which hold up no other
	back    chan progress // what was on its way, when it is done

	rounds int // in which late ones were tried, since there were none
}

// noting is the dead letters to be noted next, and after a while.
type noting struct {
	tasks, late []*task
	busy        bool
}

// progress is what became of consequences that were sent, or of dead letters
// that were noted.
type progress struct {
	sent   bool          // they were sent; else noted
	of     *noting       // where they were noted
	failed []consequence // to be sent again
	later  []*task       // to be noted again
	over   []*task       // all that was to be done for them is done
}

func (f *finisher) working() bool { return f.sending || f.first.busy || f.repeat.busy }

func (f *finisher) behind() bool { return len(f.late)+len(f.repeat.late) > 0 }

// run works until stop is closed and nothing is left to settle. Once the
// handlers' contexts have ended, what failed is not tried again: it stays
// unsettled and is delivered again.
func (f *finisher) run(ctx context.Context, ended, stop <-chan struct{}) {
	f.settlements = make(map[*source]*settlements)
	f.back = make(chan progress, 3)
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	for stopped, timed := false, false; !stopped || f.working(); {
		select {
		case <-f.b.sched.finish:
			f.round(ctx)
		case p := <-f.back:
			f.proceed(ctx, p)
		case <-again.C:
			timed = false
			f.due, f.late = append(f.due, f.late...), nil
			f.repeat.tasks, f.repeat.late = append(f.repeat.tasks, f.repeat.late...), nil
		case <-ended:
			ended = nil
		case <-stop:
			stopped, stop, ended = true, nil, nil
			f.round(ctx)
		}
		if stopped {
			f.due = f.leave(f.due)
			f.first.tasks = f.leaveNotes(f.first.tasks)
			f.repeat.tasks = f.leaveNotes(f.repeat.tasks)
		}
		if ended == nil {
			f.late = f.leave(f.late)
			f.repeat.late = f.leaveNotes(f.repeat.late)
		}
		f.begin(ctx)
		switch {
		case f.behind() && !timed:
			timed = true
			f.rounds++
			again.Reset(reopenPolicy.Wait(f.rounds))
		case !f.behind() && !f.working():
			f.rounds = 0
		}
	}
}

// round settles what was done since the last one, or has what follows from it
// sent first.
func (f *finisher) round(ctx context.Context) {
	tasks := f.b.sched.takeDone(f.spare)
	ready := tasks[:0]
	for _, t := range tasks {
		if t.concluded { // all that follows from it has happened
			ready = append(ready, t)
			continue
		}
		n := len(f.due)
		f.due = f.b.consequences(f.due, t)
		switch t.unsent = len(f.due) - n; {
		case t.unsent > 0:
			f.fit(f.due[n:])
		case f.toNote(t):
			f.first.tasks = append(f.first.tasks, t)
		default:
			ready = append(ready, t)
		}
	}
	f.settle(ctx, ready)
	clear(tasks)
	f.spare = tasks
}

// begin begins to send and to note what is next.
func (f *finisher) begin(ctx context.Context) {
	if !f.sending && len(f.due) > 0 {
		due := f.due
		f.due, f.sending = nil, true
		go func() { f.back <- f.carryOut(ctx, due) }()
	}
	for _, n := range []*noting{&f.first, &f.repeat} {
		if !n.busy && len(n.tasks) > 0 {
			tasks := n.tasks
			n.tasks, n.busy = nil, true
			go func() {
				p := f.note(ctx, tasks)
				p.of = n
				f.back <- p
			}()
		}
	}
}

// carryOut sends consequences.
func (f *finisher) carryOut(ctx context.Context, due []consequence) progress {
	p := progress{sent: true, failed: f.send(ctx, due)}
	for i, c := range due {
		if c.of.unsent == 0 && (i == 0 || due[i-1].of != c.of) {
			if c.of.verdict == bury {
				crash.ConsumerBuried.Pass()
			}
			p.over = append(p.over, c.of)
		}
	}
	return p
}

// proceed goes on with what has come back.
func (f *finisher) proceed(ctx context.Context, p progress) {
	if !p.sent {
		p.of.busy = false
		f.repeat.late = append(f.repeat.late, p.later...)
		f.settle(ctx, p.over)
		return
	}
	f.sending = false
	f.late = append(f.late, p.failed...)
	var ready []*task
	for _, t := range p.over {
		if f.toNote(t) {
			f.first.tasks = append(f.first.tasks, t)
		} else {
			ready = append(ready, t)
		}
	}
	f.settle(ctx, ready)
}

// leave gives up what was not sent: the service ends. Consequences of one task
// are side by side.
func (f *finisher) leave(due []consequence) []consequence {
	for i, c := range due {
		if i == 0 || due[i-1].of != c.of {
			f.b.sched.settled([]*task{c.of})
		}
	}
	return nil
}

// leaveNotes gives up what was not noted.
func (f *finisher) leaveNotes(tasks []*task) []*task {
	f.b.sched.settled(tasks)
	return nil
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
	if whole && len(cs) > 1 && s.conn.Classify(err) != driver.Retryable && ctx.Err() == nil { // one of them spoils it for the others
		for i := range cs {
			left = append(left, f.send(ctx, cs[i:i+1])...)
		}
		return left
	}
	for i, c := range cs {
		confirmed := why == nil || why[i] == nil
		if !confirmed && f.shrink(&c, why[i]) { // at once: it holds up none of the others
			left = append(left, f.send(ctx, []consequence{c})...)
			continue
		}
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
			n := Notice{Kind: NoticeSettle, Channel: f.b.channel.Name, Group: f.b.group, Message: c.m, Attempt: c.attempt, Err: why[i]}
			if c.letter { // all of them wait for one channel
				n.Channel, n.quiet = c.m.Channel, !s.rare("letters to "+c.m.Channel)
				n.Err = fmt.Errorf("the channel does not take a dead letter, whose message waits: if it is full, requeue or discard what it holds (dovetail dead), or raise its bound: %w", why[i])
			}
			s.notice(n)
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
// until it is taken, unless it is too large without all that can be cut.
func (f *finisher) lost(ctx context.Context, c *consequence, why error) bool {
	s := f.b.s
	if c.letter {
		switch s.conn.Classify(why) {
		case driver.TooLarge: // there is nothing left to cut
			s.notice(Notice{Kind: NoticeLost, Channel: f.b.channel.Name, Group: f.b.group, Message: c.of.in.Message, Attempt: c.of.in.Attempt,
				Err: fmt.Errorf("its dead letter is too large for the broker even without its body: %w; it failed with: %w", why, c.of.err)})
			return true
		case driver.NotFound: // the broker has lost it
			if strings.HasPrefix(c.m.Channel, unhandledPrefix) { // the next attempt provisions it
				s.waiting.note(c.m.Channel, false)
			} else if err := s.Provision(ctx); err != nil {
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
		l := f.settlements[t.from]
		if l == nil {
			l = new(settlements)
			f.settlements[t.from] = l
		}
		t.deliveries(func(d *driver.Delivery) {
			l.list = append(l.list, driver.Settlement{Delivery: d, Outcome: outcome})
			l.of = append(l.of, t)
		})
	}
	for src, l := range f.settlements {
		if len(l.list) == 0 {
			continue
		}
		crash.ConsumerSettling.Pass()
		f.settleWith(ctx, src, l)
		clear(l.list) // what is settled keeps no memory
		clear(l.of)
		l.list, l.of = l.list[:0], l.of[:0]
	}
	if len(over) > 0 {
		f.b.sched.settled(over)
	}
}

// settlements are those of one source, and their tasks by index.
type settlements struct {
	list []driver.Settlement
	of   []*task
}

// settleWith settles what one source delivered. Of those that were not taken, or
// may not have been, the outcome is remembered: they come again.
func (f *finisher) settleWith(ctx context.Context, src *source, l *settlements) {
	r, err := src.settle(ctx, l.list)
	var stale *driver.StaleError
	switch {
	case err == nil:
		crash.ConsumerSettled.Pass()
		for _, t := range l.of {
			switch {
			case t.receiver != r: // an earlier receiver delivered it
				f.b.recall.settled(t)
			case t.concluded:
				f.b.recall.forget(t)
			}
		}
	case errors.As(err, &stale):
		for _, i := range stale.Indexes {
			if l.list[i].Delivery == l.of[i].delivery {
				f.b.recall.settled(l.of[i])
			}
		}
	default:
		for _, t := range l.of {
			f.b.recall.settled(t)
		}
		f.b.s.notice(Notice{Kind: NoticeSettle, Channel: f.b.channel.Name, Group: f.b.group, Err: err})
		src.renew(r) // where there are no leases, only a closed receiver gives them back
	}
}
