package dovetail

import (
	"fmt"

	"github.com/dovetail-go/dovetail/driver"
)

// An outgoing message is one that must be sent before another is settled.
type outgoing struct {
	m       *driver.Message
	of      *item
	letter  bool // a dead letter, or one that waits; else it is an answer
	cut     int  // how much of the letter was left out, as cuts has it
	attempt int
	why     error // the last attempt failed
	lost    bool  // an answer in place of one that the broker found too large
}

// noticeLetter notifies hooks of a letter that the broker has confirmed.
func (b *groupConsumer) noticeLetter(c *outgoing) {
	t := c.of
	n := Notice{Channel: b.channel.Name, Group: b.group, Message: t.in.Message, Attempt: t.in.Attempt, Err: t.err}
	if t.result == resultForward {
		n.Kind, n.Err = NoticeUnhandled, fmt.Errorf("%w: it waits on channel %s", t.err, c.m.Channel)
		b.s.notice(n)
	}
	if c.m.Channel == DeadLetterChannel(b.s.name) {
		n.Kind, n.Err = NoticeDead, t.err
		b.s.notice(n)
	}
}

// appendOutgoing appends what must be sent before t is settled: an answer, a dead
// letter, both, or none.
func (b *groupConsumer) appendOutgoing(due []outgoing, t *item) []outgoing {
	m := t.in.Message
	switch t.result {
	case resultForward: // who handles it answers
		return append(due, outgoing{m: b.forward(t), of: t, letter: true})
	case resultDeadLetter:
		if b.keeps(t) {
			due = append(due, outgoing{m: b.deadLetter(t), of: t, letter: true})
		} else {
			b.s.notice(Notice{Kind: NoticeDiscard, Channel: b.channel.Name, Group: b.group, Message: m, Attempt: t.in.Attempt, Err: t.err})
		}
	}
	if m.ReplyTo == "" || t.answered {
		return due
	}
	if !b.asked(t) {
		if t.in.answer != nil {
			b.s.notice(Notice{Kind: NoticeReplyFailed, Channel: b.channel.Name, Group: b.group, Message: m,
				Err: fmt.Errorf("channel %s is none on which answers are awaited", m.ReplyTo)})
		}
		return due
	}
	if t.unanswered != nil {
		return append(due, outgoing{m: t.unanswered, of: t})
	}
	if r := b.answer(t); r != nil {
		due = append(due, outgoing{m: b.reply(t, r), of: t})
	}
	return due
}

// answer is what the sender of t's message is told, nil for nothing. What the
// last error says comes before what the handler answered: middleware may have
// refused the message, or failed after it.
func (b *groupConsumer) answer(t *item) *Reply {
	switch {
	case t.result == resultPass:
		if b.channel.Kind == driver.PointToPoint {
			return failedReply(fmt.Errorf("service %s does not handle %s", b.s.name, t.in.Message.Type))
		}
		return nil
	case t.err == errExpired:
		return t.in.answer
	case t.err != nil && t.result == resultDone:
		r, _ := encodeReply(nil, nil, t.err) // a refusal always encodes
		return &r
	case t.err != nil:
		return failedReply(t.err)
	}
	return t.in.answer // nil for a command, an event
}

// keeps reports whether a message that cannot be handled becomes a dead letter:
// not on a channel that may lose messages, and not where it was a question to this
// instance alone, since the caller gets the error. A message that came from the dead
// letters always becomes one again.
func (b *groupConsumer) keeps(t *item) bool {
	question := b.broadcast && (t.in.Message.ReplyTo != "" || b.answersOnly())
	return t.letter || !b.channel.Transient && !question
}
