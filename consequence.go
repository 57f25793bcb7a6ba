package dovetail

import (
	"fmt"

	"github.com/dovetail-go/dovetail/driver"
)

// A consequence is a message that must be sent before another is settled.
type consequence struct {
	m       *driver.Message
	of      *task
	attempt int
}

// dead reports whether c is a dead letter; else it is an answer.
func (c *consequence) dead() bool {
	return c.m.Channel == DeadLetterChannel(c.of.in.Service)
}

// consequences appends what must be sent before t is settled: an answer, a dead
// letter, both, or none.
func (b *inbound) consequences(due []consequence, t *task) []consequence {
	m := t.in.Message
	if t.verdict == bury {
		if b.keeps(t) {
			due = append(due, consequence{m: b.bury(t), of: t})
		} else {
			b.s.notice(Notice{Kind: NoticeDiscard, Channel: b.channel.Name, Group: b.group, Message: m, Attempt: t.in.Attempt, Err: t.err})
		}
	}
	if m.ReplyTo == "" || t.answered {
		return due
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
	case t.err == errExpired:
		return t.in.answer
	case t.err != nil && t.verdict == done:
		r, _ := encodeReply(nil, nil, t.err) // a refusal always encodes
		return &r
	case t.err != nil:
		return failedReply(t.err)
	case t.sub == nil && b.channel.Kind == driver.PointToPoint:
		return failedReply(fmt.Errorf("service %s does not handle %s", b.s.name, t.in.Message.Type))
	}
	return t.in.answer // nil for a command, an event
}

// keeps reports whether a message that cannot be handled becomes a dead letter:
// not where losing it was asked for, and not where it was only a question to
// this instance, whose asker is told. What was one becomes one again.
func (b *inbound) keeps(t *task) bool {
	question := b.broadcast && (t.in.Message.ReplyTo != "" || b.answersOnly())
	return t.in.Requeues > 0 || !b.channel.Transient && !question
}
