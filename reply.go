package dovetail

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

// asked reports whether somebody awaits t's answer: it is a request, and names a
// channel on which services await answers. On any other channel an answer would
// be written with this service's rights for a stranger. Answers to surveys are also
// awaited on a channel of the service that asks, and of no other.
func (b *groupConsumer) asked(t *item) bool {
	to := t.in.Message.ReplyTo
	switch {
	case driver.ValidName(to) != nil:
		return false
	case strings.HasPrefix(to, ReplyPrefix):
	case to == answersChannel(t.in.Message.Source):
		return t.sub != nil && t.sub.spec.Kind == KindSurvey
	default:
		return false
	}
	if t.sub == nil { // a request of a type that nobody here takes: only that is told
		return b.channel.Kind == driver.PointToPoint && t.result == resultPass
	}
	return t.sub.spec.Kind == KindCall || t.sub.spec.Kind == KindSurvey
}

// reply makes the message that answers t. Who asked is told of an answer that is
// over a limit, rather than left to wait for it.
func (b *groupConsumer) reply(t *item, r *Reply) *driver.Message {
	m := t.in.reply(r)
	if err := b.s.sendable(m); err != nil {
		return b.replyLost(t, err)
	}
	return b.prepared(t, m)
}

// prepared is an answer when hooks have added to it.
func (b *groupConsumer) prepared(t *item, m *driver.Message) *driver.Message {
	if len(b.s.hooks.prepare) > 0 {
		ctx := context.Context(&handlerContext{context.Background(), &t.in})
		if t.in.item != nil {
			ctx = t.in.item.hooked
		}
		b.s.prepareHook(ctx, []*driver.Message{m})
	}
	return m
}

// replyLost is the reply in place of an answer that is over a limit.
func (b *groupConsumer) replyLost(t *item, err error) *driver.Message {
	err = fmt.Errorf("reply to %s: %w", t.in.Message.Type, err)
	b.s.notice(Notice{Kind: NoticeReplyFailed, Channel: b.channel.Name, Group: b.group, Message: t.in.Message, Err: err})
	return b.prepared(t, t.in.reply(failedReply(err)))
}

// reply makes the message that carries r to who asked.
func (in *Delivery) reply(r *Reply) *driver.Message {
	req := in.Message
	m := &driver.Message{
		Channel:       req.ReplyTo,
		Transient:     strings.HasPrefix(req.ReplyTo, ReplyPrefix),
		ID:            deriveID(nil, 0, req.Source, req.ID, in.Group, in.token, "reply"), // the same at every redelivery
		Source:        in.Service,
		Type:          replyType(req.Type),
		Time:          now(),
		ContentType:   r.ContentType,
		Key:           req.Key,
		CorrelationID: req.CorrelationID,
		CausationID:   req.ID,
		Headers:       driver.Headers{{Name: headerInstance, Value: in.Instance}},
		Body:          r.Body,
	}
	if m.CorrelationID == "" {
		m.CorrelationID = req.ID
	}
	if in.token != "" {
		m.Headers = append(m.Headers, driver.Header{Name: headerToken, Value: in.token})
	}
	if r.Status != "" {
		m.Headers = append(m.Headers,
			driver.Header{Name: headerStatus, Value: r.Status},
			driver.Header{Name: headerAttempts, Value: strconv.Itoa(in.Attempt)})
	}
	return m
}

func failedReply(err error) *Reply {
	body, _ := json.Marshal(problem{Detail: cut(errText(err), maxDeadError)}) // strings always encode
	return &Reply{Status: statusFailed, ContentType: problemType, Body: body}
}

func expiredReply() *Reply {
	body, _ := json.Marshal(problem{Detail: ErrExpired.Error()})
	return &Reply{Status: statusExpired, ContentType: problemType, Body: body}
}
