package dovetail

import (
	"fmt"

	"github.com/dovetail-go/dovetail/driver"
)

// A consequence is a message that must be sent before another is settled.
type consequence struct {
	m       *driver.Message
	of      *task
	letter  bool // a dead letter, or one that waits; else it is an answer
	cut     int  // how much of the letter was left out, as cuts has it
	attempt int
	why     error // the last attempt failed
	lost    bool  // an answer in place of one that the broker found too large
}

// told tells of a letter that the broker has confirmed.
func (b *inbound) told(c *consequence) {
	t := c.of
	n := Notice{Channel: b.channel.Name, Group: b.group, Message: t.in.Message, Attempt: t.in.Attempt, Err: t.err}
	if t.verdict == forward {
		n.Kind, n.Err = NoticeUnhandled, fmt.Errorf("%w: it waits on channel %s", t.err, c.m.Channel)
		b.s.notice(n)
	}
	if c.m.Channel == DeadLetterChannel(b.s.name) {
		n.Kind, n.Err = NoticeDead, t.err
		b.s.notice(n)
	}
}

// consequences appends what must be sent before t is settled: an answer, a dead
// letter, both, or none.
func (b *inbound) consequences(due []consequence, t *task) []consequence {
	m := t.in.Message
	switch t.verdict {
	case forward: // who handles it answers
		return append(due, consequence{m: b.forward(t), of: t, letter: true})
	case bury:
		if b.keeps(t) {
			due = append(due, consequence{m: b.bury(t), of: t, letter: true})
		} else {
			b.s.notice(Notice{Kind: NoticeDiscard, Channel: b.channel.Name, Group: b.group, Message: m, Attempt: t.in.Attempt, Err: t.err})
		}
	}
	if m.ReplyTo == "" || t.answered {
		return due
	}
	if !b.asked(t) {
		if t.in.answer != nil {
			b.s.notice(Notice{Kind: NoticeLostCaller, Channel: b.channel.Name, Group: b.group, Message: m,
				Err: fmt.Errorf("channel %s is none on which answers are awaited", m.ReplyTo)})
		}
		return due
	}
	if t.unanswered != nil {
		return append(due, consequence{m: t.unanswered, of: t})
	}
	if r := b.answer(t); r != nil {
		due = append(due, consequence{m: b.reply(t, r), of: t})
	}
	return due
}

// answer is what the sender of t's message is told, nil for nothing. What the
// last error says comes before what the handler answered: middleware may have
// refused the message, or failed after it.
func (b *inbound) answer(t *task) *Reply {
	switch {
	case t.verdict == pass:
		if b.channel.Kind == driver.PointToPoint {
			return failedReply(fmt.Errorf("service %s does not handle %s", b.s.name, t.in.Message.Type))
		}
		return nil
	case t.err == errExpired:
		return t.in.answer
	case t.err != nil && t.verdict == done:
		r, _ := encodeReply(nil, nil, t.err) // a refusal always encodes
		return &r
	case t.err != nil:
		return failedReply(t.err)
	}
	return t.in.answer // nil for a command, an event
}

// keeps reports whether a message that cannot be handled becomes a dead letter:
// not where losing it was asked for, and not where it was only a question to
// this instance, whose asker is told. What was one becomes one again.
func (b *inbound) keeps(t *task) bool {
	question := b.broadcast && (t.in.Message.ReplyTo != "" || b.answersOnly())
	return t.letter || !b.channel.Transient && !question
}
