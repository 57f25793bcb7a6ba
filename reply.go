package dovetail

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

// reply makes the message that answers t. Who asked is told of an answer that is
// over a limit, rather than left to wait for it.
func (b *inbound) reply(t *task, r *Reply) *driver.Message {
	m := b.encodeReply(t, r)
	if err := b.s.sendable(m); err != nil {
		err = fmt.Errorf("reply to %s: %w", t.in.Message.Type, err)
		b.s.notice(Notice{Kind: NoticeLostCaller, Channel: b.channel.Name, Group: b.group, Message: t.in.Message, Err: err})
		m = b.encodeReply(t, failedReply(err))
	}
	return m
}

func (b *inbound) encodeReply(t *task, r *Reply) *driver.Message {
	req := t.in.Message
	m := &driver.Message{
		Channel:       req.ReplyTo,
		Transient:     strings.HasPrefix(req.ReplyTo, ReplyPrefix),
		ID:            deriveID(nil, 0, req.Source, req.ID, b.group, t.token, "reply"), // the same at every redelivery
		Source:        b.s.name,
		Type:          replyType(req.Type),
		Time:          now(),
		ContentType:   r.ContentType,
		Key:           req.Key,
		CorrelationID: req.CorrelationID,
		CausationID:   req.ID,
		Headers:       driver.Headers{{Name: headerInstance, Value: b.s.opts.Instance}},
		Body:          r.Body,
	}
	if m.CorrelationID == "" {
		m.CorrelationID = req.ID
	}
	if t.token != "" {
		m.Headers = append(m.Headers, driver.Header{Name: headerToken, Value: t.token})
	}
	if r.Status != "" {
		m.Headers = append(m.Headers,
			driver.Header{Name: headerStatus, Value: r.Status},
			driver.Header{Name: headerAttempts, Value: strconv.Itoa(t.in.Attempt)})
	}
	return m
}

func failedReply(err error) *Reply {
	body, _ := json.Marshal(problem{Detail: cut(errText(err), maxDeadError)}) // strings always encode
	return &Reply{statusFailed, problemType, body}
}

func expiredReply() *Reply {
	body, _ := json.Marshal(problem{Detail: ErrExpired.Error()})
	return &Reply{statusExpired, problemType, body}
}
