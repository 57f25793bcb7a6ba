package dovetail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/dovetail-go/dovetail/codec"
	"github.com/dovetail-go/dovetail/driver"
)

// typed wraps a handler of values into one of messages.
func typed[T any](c *contract[T], handle func(context.Context, T) error) Handler {
	if handle == nil {
		return nil
	}
	return func(ctx context.Context, in *Delivery) error {
		v, err := c.decode(in.Message)
		if err != nil {
			return err
		}
		return handle(ctx, v)
	}
}

// typedAnswer wraps a handler that answers.
func typedAnswer[Req, Res any](c *contract[Req], cd codec.Codec, answer func(context.Context, Req) (Res, error)) Handler {
	if answer == nil {
		return nil
	}
	return func(ctx context.Context, in *Delivery) error {
		req, err := c.decode(in.Message)
		if err != nil {
			return err
		}
		in.replyCodec = cd
		res, err := answer(ctx, req)
		r, encodeErr := encodeReply(cd, res, err)
		if encodeErr == nil {
			in.answer = &r
		} else if err == nil {
			return Permanent(encodeErr)
		}
		return err
	}
}

// typedBatch wraps a handler of many values. A message that cannot be decoded
// fails alone.
func typedBatch[T any](c *contract[T], handle func(context.Context, []T) []error) BatchHandler {
	if handle == nil {
		return nil
	}
	return func(ctx context.Context, ins []*Delivery) []error {
		errs := make([]error, len(ins))
		values := make([]T, 0, len(ins))
		sound := make([]*Delivery, 0, len(ins))
		index := make([]int, 0, len(ins))
		for i, in := range ins {
			v, err := c.decode(in.Message)
			if err != nil {
				errs[i] = err
				continue
			}
			values, sound, index = append(values, v), append(sound, in), append(index, i)
		}
		if len(values) == 0 {
			return errs
		}
		got := handle(context.WithValue(ctx, batchKey{}, sound), values)
		if len(got) != 0 && len(got) != len(values) {
			err := errCount(len(got), len(values))
			for _, i := range index {
				errs[i] = err
			}
			return errs
		}
		for j, err := range got {
			errs[index[j]] = err
		}
		return errs
	}
}

// Headers of replies; names are lower case as CloudEvents extensions are.
const (
	headerStatus   = "dovetail-status"   // absent for an answer; refused, failed or expired
	headerInstance = "dovetail-instance" // which instance answered
	headerAttempts = "dovetail-attempts" // of a failure: how often it was tried
)

// Statuses of replies.
const (
	statusRefused = "refused"
	statusFailed  = "failed"
	statusExpired = "expired"
)

// problem is the body of a reply that is no answer, after RFC 9457.
type problem struct {
	Code   string `json:"code,omitempty"`
	Detail string `json:"detail"`
}

const problemType = "application/problem+json"

// encodeReply encodes an answer or a refusal; any other err comes back.
func encodeReply(cd codec.Codec, v any, err error) (Reply, error) {
	refusal := RefusalOf(err)
	switch {
	case refusal != nil:
		body, err := json.Marshal(problem{refusal.Code, refusal.Message})
		return Reply{Status: statusRefused, ContentType: problemType, Body: body}, err
	case err != nil:
		return Reply{}, err
	case cd == nil:
		return Reply{}, errors.New("this message awaits no reply")
	}
	body, err := marshal(cd, v)
	if err != nil {
		return Reply{}, fmt.Errorf("encode reply: %w", err)
	}
	return Reply{ContentType: cd.ContentType(), Body: body}, nil
}

// decodeKept undoes encodeReply.
func decodeKept(cd codec.Codec, r Reply, v any) error {
	return decodeStatus(r.Status, r.ContentType, r.Body, cd, v, func(status string, p problem) error {
		if status == statusRefused { // it was this handler's
			return &Refusal{Code: p.Code, Message: p.Detail}
		}
		return &RemoteError{Message: p.Detail}
	})
}

// decodeReply reads a reply's message: an answer into v, or what it is instead
// as an error.
func decodeReply(m *driver.Message, cd codec.Codec, v any) error {
	return decodeStatus(m.Headers.Get(headerStatus), m.ContentType, m.Body, cd, v, func(status string, p problem) error {
		if status == statusRefused {
			return &RemoteRefusal{Service: m.Source, Code: p.Code, Message: p.Detail}
		}
		return &RemoteError{Service: m.Source, Message: p.Detail, Attempts: atoi(m.Headers.Get(headerAttempts))}
	})
}

func decodeStatus(status, contentType string, body []byte, cd codec.Codec, v any, failed func(string, problem) error) error {
	if status == "" {
		if contentType != "" && (cd == nil || contentType != cd.ContentType()) {
			var err error
			if cd, err = codec.Lookup(contentType); err != nil {
				return fmt.Errorf("decode reply: %w", err)
			}
		}
		if err := unmarshal(cd, body, v); err != nil {
			return fmt.Errorf("decode reply: %w", err)
		}
		return nil
	}
	var p problem
	if err := json.Unmarshal(body, &p); err != nil {
		return fmt.Errorf("decode %s reply: %w", status, err)
	}
	if status == statusExpired {
		return ErrExpired
	}
	return failed(status, p)
}
