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
// message and loses none. What the broker does not take is tried again beside
// the others, which do not wait for it.
type finisher struct {
	b *inbound

	spare       []*task
	due         []consequence // scratch
	late        []consequence // to be sent again
	untold      []*task       // kept as dead letters, which OnDeadLetter is still to be told
	rounds      int           // in which late ones were tried, since there were none
	settlements map[*source][]driver.Settlement
}

// run works until stop is closed and nothing is left to settle. When ctx ends,
// what could not be answered or buried stays unsettled and is delivered again.
func (f *finisher) run(ctx context.Context, stop <-chan struct{}) {
	f.settlements = make(map[*source][]driver.Settlement)
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	ended := ctx.Done()
	for stopped, timed := false, false; !stopped; {
		select {
		case <-f.b.sched.finish:
			f.round(ctx)
		case <-again.C:
			timed = false
			f.retry(ctx)
		case <-ended:
			ended = nil
		case <-stop:
			stopped = true
			f.round(ctx)
		}
		switch {
		case ended == nil || stopped || ctx.Err() != nil:
			f.leave()
		case len(f.late)+len(f.untold) == 0:
			f.rounds = 0
		case !timed:
			timed = true
			f.rounds++
			again.Reset(reopenPolicy.Wait(f.rounds))
		}
	}
}

// round finishes what was done since the last one.
func (f *finisher) round(ctx context.Context) {
	tasks := f.b.sched.takeDone(f.spare)
	f.due = f.due[:0]
	for _, t := range tasks {
		n := len(f.due)
		f.due = f.b.consequences(f.due, t)
		t.unsent = len(f.due) - n
	}
	f.late = append(f.late, f.send(ctx, f.due)...)
	clear(f.due)
	f.settle(ctx, tasks)
	clear(tasks)
	f.spare = tasks
}

// retry tries the late ones again.
func (f *finisher) retry(ctx context.Context) {
	tried, tasks := f.late, f.untold
	f.late, f.untold = f.send(ctx, tried), nil
	for _, c := range tried {
		if n := len(tasks); n == 0 || tasks[n-1] != c.of { // those of a task are side by side
			tasks = append(tasks, c.of)
		}
	}
	f.settle(ctx, tasks)
}

// leave gives the late ones up: the service ends.
func (f *finisher) leave() {
	for i, c := range f.late {
		if i == 0 || f.late[i-1].of != c.of {
			f.b.sched.settled([]*task{c.of})
		}
	}
	f.b.sched.settled(f.untold)
	f.late, f.untold = nil, nil
}

// send sends answers and dead letters once and returns those that are to be
// sent again.
func (f *finisher) send(ctx context.Context, cs []consequence) (left []consequence) {
	if len(cs) == 0 {
		return nil
	}
	s := f.b.s
	messages := make([]*driver.Message, len(cs))
	for i, c := range cs {
		messages[i] = c.m
	}
	err := s.conn.Send(ctx, messages)
	why, whole := unconfirmed(err, len(cs))
	if whole && len(cs) > 1 && !s.passes(err) && ctx.Err() == nil { // one of them spoils it for the others
		for i := range cs {
			left = append(left, f.send(ctx, cs[i:i+1])...)
		}
		return left
	}
	for i, c := range cs {
		if why == nil || why[i] == nil || ctx.Err() == nil && f.lost(ctx, &c, why[i]) {
			c.of.unsent--
			if c.of.verdict != bury {
				crash.ConsumerReplied.Pass()
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
	if c.m.Channel == DeadLetterChannel(s.name) {
		switch s.conn.Classify(why) {
		case driver.TooLarge:
			c.m = slimmed(c.m)
		case driver.NotFound: // the broker has lost it
			if err := s.Provision(ctx); err != nil {
				s.notice(Notice{Kind: NoticeSettle, Channel: c.m.Channel, Err: err})
			}
		}
		return false
	}
	if s.passes(why) && (!c.m.Transient || c.attempt+1 < replyAttempts) {
		return false
	}
	s.notice(Notice{Kind: NoticeLostCaller, Channel: f.b.channel.Name, Group: f.b.group, Message: c.m, Err: why})
	return true
}

// settle tells each source's receiver what became of its deliveries, of those
// whose consequences are sent.
func (f *finisher) settle(ctx context.Context, tasks []*task) {
	for src := range f.settlements {
		f.settlements[src] = f.settlements[src][:0]
	}
	over := tasks[:0]
	deaf := false
	for _, t := range tasks {
		if t.unsent > 0 {
			continue
		}
		if t.verdict == bury && !deaf {
			crash.ConsumerBuried.Pass()
		}
		if t.verdict == bury && (deaf || !f.tell(ctx, t)) {
			deaf = true // what is told is the same database, most likely
			f.untold = append(f.untold, t)
			continue
		}
		over = append(over, t)
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
		if err := f.settleOne(ctx, src, list); err != nil {
			f.b.s.notice(Notice{Kind: NoticeSettle, Channel: f.b.channel.Name, Group: f.b.group, Err: err})
			src.renew() // where there are no leases, only a closed receiver gives them back
			continue
		}
		crash.ConsumerSettled.Pass()
	}
	if len(over) > 0 {
		f.b.sched.settled(over)
	}
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
		if err := told(ctx); err != nil {
			f.b.s.notice(Notice{Kind: NoticeSettle, Channel: f.b.channel.Name, Group: f.b.group, Message: t.in.Message, Err: fmt.Errorf("note the dead letter: %w", err)})
			return false
		}
	}
	return true
}

// tellTimeout bounds how long settling waits for a database that hangs.
const tellTimeout = 10 * time.Second

// settleOne tries a few times: a message whose settlement is lost comes again,
// which costs more.
func (f *finisher) settleOne(ctx context.Context, src *source, list []driver.Settlement) error {
	for attempt := 1; ; attempt++ {
		err := src.current().Settle(ctx, list)
		if err == nil || attempt == 4 || f.b.s.conn.Classify(err) != driver.Retryable {
			return err
		}
		if !wait(ctx, 10*time.Millisecond<<attempt) {
			return err
		}
	}
}
