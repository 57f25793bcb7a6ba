package kafkabus

import (
	"context"
	"errors"
	"fmt"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// fetchError notes an error that a poll brought.
func (r *receiver) fetchError(p *part, err error, canceled bool) {
	var loss *kgo.ErrDataLoss
	switch {
	case canceled && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)), errors.Is(err, kgo.ErrClientClosed):
		return
	case errors.As(err, &loss):
		// The client goes on where the server's log was cut: nothing that was
		// not handed out is passed over.
		r.c.opts.Logger.Warn("kafkabus: the server has lost confirmed messages", "topic", loss.Topic, "partition", loss.Partition,
			"consumed", loss.ConsumedTo, "reset", loss.ResetTo)
		return
	case errors.Is(err, kerr.OffsetOutOfRange) && p != nil:
		remedy := "set the group's offsets with the server's tools, or remove the group and provision it again"
		if !r.group {
			remedy = "open its receiver without Resume"
		}
		p.err = fmt.Errorf("kafkabus: channel %s, partition %d, group %s: %w: the server has deleted messages that the group had not handled; to go on without them, %s",
			r.sub.Channel.Name, p.id, r.sub.GroupName(), driver.ErrPositionLost, remedy)
		return
	}
	var session *kgo.ErrGroupSession
	if errors.As(err, &session) && meaningOf(err) == nil {
		err = fmt.Errorf("%w: %w", driver.ErrRetryable, err)
	}
	r.lost = translate(fmt.Sprintf("receive from channel %s", r.sub.Channel.Name), err)
}
