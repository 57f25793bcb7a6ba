package rabbitbus

import (
	"context"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

var _ driver.Sharer = (*receiver)(nil)

// Shared reports whether others consume the group's queue beside r.
func (r *receiver) Shared(ctx context.Context) (bool, error) {
	if err := r.isOpen(); err != nil {
		return false, err
	}
	if r.st.exclusive() || r.s.Broadcast {
		return false, nil
	}
	s, err := r.c.sub.session()
	if err != nil {
		return false, err
	}
	var q amqp.Queue
	err = s.with(ctx, func(ch *amqp.Channel) (err error) {
		q, err = ch.QueueDeclarePassive(r.sources[0].queue, true, false, false, false, nil)
		return err
	})
	if err != nil {
		return false, translate("look for other receivers of "+r.s.Group, err)
	}
	return q.Consumers > 1, nil
}
