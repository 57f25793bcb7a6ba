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

// completer answers and settles what the handlers are done with, in batches: while
// one batch is on its way, the next gathers. Answers and dead letters are sent
// before their messages are settled, so that a crash in between repeats a
// message and loses none. They are sent beside the settling, which does not wait
// for them, and what the broker does not take is tried again. Dead letters that
// are kept are then noted where that was asked for, beside both.
type completer struct {
	b *groupConsumer

	spare       []*item
	settlements map[*source]*settlements

	due     []outgoing    // to be sent next
	late    []outgoing    // failed, and to be sent again after a while
	sending bool          // some are on their way
	first   noting        // dead letters to be noted
	repeat  noting        // and those whose noting failed before, which hold up no other
	back    chan progress // what was on its way, when it is done

	rounds int // retries since the last time that nothing was late; sets the back-off
}

// noting is the dead letters to be noted next, and after a while.
type noting struct {
	items, late []*item
	busy        bool
}

// progress is what became of outgoing messages that were sent, or of dead letters
// that were noted.
type progress struct {
	sent   bool       // they were sent; else noted
	of     *noting    // where they were noted
	failed []outgoing // to be sent again
	later  []*item    // to be noted again
	over   []*item    // all that was to be done for them is done
}

func (f *completer) working() bool { return f.sending || f.first.busy || f.repeat.busy }

func (f *completer) behind() bool { return len(f.late)+len(f.repeat.late) > 0 }

// run works until stop is closed and nothing is left to settle. Once the
// handlers' contexts have ended, what failed is not tried again: it stays
// unsettled and is delivered again.
func (f *completer) run(ctx context.Context, ended, stop <-chan struct{}) {
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
			f.repeat.items, f.repeat.late = append(f.repeat.items, f.repeat.late...), nil
		case <-ended:
			ended = nil
		case <-stop:
			stopped, stop, ended = true, nil, nil
			f.round(ctx)
		}
		if stopped {
			f.due = f.leave(f.due)
			f.first.items = f.leaveNotes(f.first.items)
			f.repeat.items = f.leaveNotes(f.repeat.items)
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
func (f *completer) round(ctx context.Context) {
	items := f.b.sched.takeDone(f.spare)
	ready := items[:0]
	for _, t := range items {
		if t.concluded { // all that follows from it has happened
			ready = append(ready, t)
			continue
		}
		n := len(f.due)
		f.due = f.b.appendOutgoing(f.due, t)
		switch t.unsent = len(f.due) - n; {
		case t.unsent > 0:
			f.fit(f.due[n:])
		case f.toNote(t):
			f.first.items = append(f.first.items, t)
		default:
			ready = append(ready, t)
		}
	}
	f.settle(ctx, ready)
	clear(items)
	f.spare = items
}

// begin begins to send and to note what is next.
func (f *completer) begin(ctx context.Context) {
	if !f.sending && len(f.due) > 0 {
		due := f.due
		f.due, f.sending = nil, true
		go func() { f.back <- f.flush(ctx, due) }()
	}
	for _, n := range []*noting{&f.first, &f.repeat} {
		if !n.busy && len(n.items) > 0 {
			items := n.items
			n.items, n.busy = nil, true
			go func() {
				p := f.note(ctx, items)
				p.of = n
				f.back <- p
			}()
		}
	}
}

// flush sends outgoing messages.
func (f *completer) flush(ctx context.Context, due []outgoing) progress {
	p := progress{sent: true, failed: f.send(ctx, due)}
	for i, c := range due {
		if c.of.unsent == 0 && (i == 0 || due[i-1].of != c.of) {
			if c.of.result == resultDeadLetter {
				crash.ConsumerDeadLetterSent.Pass()
			}
			p.over = append(p.over, c.of)
		}
	}
	return p
}

// proceed goes on with what has come back.
func (f *completer) proceed(ctx context.Context, p progress) {
	if !p.sent {
		p.of.busy = false
		f.repeat.late = append(f.repeat.late, p.later...)
		f.settle(ctx, p.over)
		return
	}
	f.sending = false
	f.late = append(f.late, p.failed...)
	f.unsent(p.failed)
	var ready []*item
	for _, t := range p.over {
		if f.toNote(t) {
			f.first.items = append(f.first.items, t)
		} else {
			ready = append(ready, t)
		}
	}
	f.settle(ctx, ready)
}

// leave gives up what was not sent: the service ends. Outgoing messages of one item
// are side by side.
func (f *completer) leave(due []outgoing) []outgoing {
	for i, c := range due {
		if i == 0 || due[i-1].of != c.of {
			f.b.sched.settled([]*item{c.of})
		}
	}
	return nil
}

// leaveNotes gives up what was not noted.
func (f *completer) leaveNotes(items []*item) []*item {
	f.b.sched.settled(items)
	return nil
}

// completionTimeout bounds one attempt at sending answers and dead letters: what a
// channel that is full or a broker that hangs does not take is tried again, and
// the others get their turn.
const completionTimeout = 10 * time.Second

// send sends answers and dead letters once and returns those that are to be
// sent again.
func (f *completer) send(ctx context.Context, cs []outgoing) (left []outgoing) {
	if len(cs) == 0 {
		return nil
	}
	s := f.b.s
	s.provisionWaiting(ctx, cs)
	messages := make([]*driver.Message, len(cs))
	for i, c := range cs {
		messages[i] = c.m
	}
	sending, cancel := context.WithTimeout(ctx, completionTimeout)
	err := s.carry(sending, messages)
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
			left = append(left, f.send(ctx, []outgoing{c})...)
			continue
		}
		if confirmed || ctx.Err() == nil && f.lost(ctx, &c, why[i]) {
			c.of.unsent--
			if c.of.result != resultDeadLetter {
				crash.ConsumerReplied.Pass()
			}
			if confirmed && c.letter {
				f.b.noticeLetter(&c)
			}
			continue
		}
		c.why = why[i]
		if c.attempt++; c.attempt == 1 || c.attempt%10 == 0 { // the log has one line for all of them: see unsent
			s.notice(Notice{Kind: NoticeSettle, Channel: f.b.channel.Name, Group: f.b.group, Message: c.m, Attempt: c.attempt, Err: why[i], quiet: true})
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

// replyAttempts is how often an answer on a transient channel is tried. After that its
// caller has given up as well.
const replyAttempts = 6

// lost reports whether what was not sent need not be sent any more: an answer
// that the broker refuses, or cannot take for too long. A dead letter is sent
// until it is taken, unless it is too large without all that can be cut.
func (f *completer) lost(ctx context.Context, c *outgoing, why error) bool {
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
	if s.isRetryable(why) && (!c.m.Transient || c.attempt+1 < replyAttempts) {
		return false
	}
	s.notice(Notice{Kind: NoticeReplyFailed, Channel: f.b.channel.Name, Group: f.b.group, Message: c.m, Err: why})
	return true
}

// settle tells each source's receiver what became of its deliveries.
func (f *completer) settle(ctx context.Context, over []*item) {
	for _, t := range over {
		outcome := driver.Ack
		if t.result == resultDeadLetter {
			crash.ConsumerDeadLetterNoted.Pass()
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

// settlements are those of one source, and their items by index.
type settlements struct {
	list []driver.Settlement
	of   []*item
}

// settleWith settles what one source delivered. Of those that were not taken, or
// may not have been, the outcome is remembered: they come again.
func (f *completer) settleWith(ctx context.Context, src *source, l *settlements) {
	r, err := src.settle(ctx, l.list)
	var stale *driver.StaleError
	switch {
	case err == nil:
		crash.ConsumerSettled.Pass()
		for _, t := range l.of {
			switch {
			case t.receiver != r: // an earlier receiver delivered it
				f.b.recall.unsettled(t)
			case t.concluded:
				f.b.recall.forget(t)
			}
		}
	case errors.As(err, &stale):
		for _, i := range stale.Indexes {
			if l.list[i].Delivery == l.of[i].delivery {
				f.b.recall.unsettled(l.of[i])
			}
		}
	default:
		for _, t := range l.of {
			f.b.recall.unsettled(t)
		}
		f.b.s.notice(Notice{Kind: NoticeSettle, Channel: f.b.channel.Name, Group: f.b.group, Err: err})
		src.renew(r) // where there are no leases, only a closed receiver gives them back
	}
}
