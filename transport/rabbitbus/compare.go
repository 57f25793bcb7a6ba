package rabbitbus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// A setting is how a queue or exchange that exists differs from one that was
// asked for, as the server tells it: one difference with each refusal.
type setting struct {
	name  string
	value any // nil where it is not set
}

func (s setting) String() string {
	if s.value == nil {
		return s.name + " not set"
	}
	return fmt.Sprintf("%s=%v", s.name, s.value)
}

var difference = regexp.MustCompile(`inequivalent arg '([^']+)' for .* but current is (?:(none)|'([^']*)'|the value '(.*)' of type '([a-z]+)')`)

// settingOf reads a refusal of the server's, such as
//
//	inequivalent arg 'x-message-ttl' for queue 'orders' in vhost '/': received none but current is the value '1000' of type 'signedint'
func settingOf(err error) (s setting, ok bool) {
	var e *amqp.Error
	if !isCode(err, amqp.PreconditionFailed) || !errors.As(err, &e) {
		return s, false
	}
	m := difference.FindStringSubmatch(e.Reason)
	switch {
	case m == nil:
		return s, false
	case m[2] != "":
		return setting{name: m[1]}, true
	case m[5] == "":
		return setting{m[1], m[3]}, true
	}
	s = setting{m[1], m[4]}
	if m[5] == "bool" {
		s.value = m[4] == "true"
	} else if n, err := strconv.ParseInt(m[4], 10, 64); err == nil && m[5] != "longstr" {
		s.value = n
	}
	return s, true
}

// declareQueue makes a queue of a channel, or looks whether the one that is
// there can serve. The server compares and names one difference at a time; what
// does no harm is taken over, and the queue declared again as it is.
func (c *Conn) declareQueue(ctx context.Context, name string, st *channelState) error {
	s, err := c.sub.session()
	if err != nil {
		return err
	}
	args := c.queueArguments(s, st)
	learned := map[string]bool{}
	for {
		err := s.with(ctx, func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(name, true, false, false, false, args)
			return err
		})
		if isCode(err, amqp.ResourceLocked) {
			return unfit("queue "+name, "is exclusive: it is another connection's own and ends with that", "choose another name for the channel")
		}
		d, differs := settingOf(err)
		if !differs || learned[d.name] {
			if err == nil && len(learned) > 0 {
				return unfitBound(name, args, learned)
			}
			return err
		}
		if why := d.harm(st); why != "" {
			return unfit("queue "+name, fmt.Sprintf("has %v: %s", d, why), deleteQueue)
		}
		if d.name == deliveryLimit && d.value == nil { // made before the server was a RabbitMQ 4
			c.opts.Logger.Warn("rabbitbus: a queue has the server's own x-delivery-limit: what came back so often (20 times) is gone: set a policy with delivery-limit -1 for it", "queue", name)
		}
		learned[d.name] = true
		args = d.adopt(args)
	}
}

const deleteQueue = "delete the queue once it is empty, and it is made again as it has to be"

// unfit says that what exists cannot serve.
func unfit(what, why, remedy string) error {
	return fmt.Errorf("%s %w: it %s: %s", what, driver.ErrConflict, why, remedy)
}

// adopt returns args with the setting as the queue has it.
func (d setting) adopt(args amqp.Table) amqp.Table {
	args = maps.Clone(args)
	if d.value == nil {
		delete(args, d.name)
	} else {
		args[d.name] = d.value
	}
	if d.name == amqp.QueueTypeArg && d.value != amqp.QueueTypeQuorum {
		delete(args, deliveryLimit) // a quorum queue's alone
	}
	return args
}

const deliveryLimit = "x-delivery-limit"

// harm says why a queue with the setting would lose messages or their order, or
// nothing where it serves. A bound on its length is looked at by unfitBound.
func (d setting) harm(st *channelState) string {
	if st.transient {
		return "the channel is transient, and the queue is not made for that"
	}
	switch d.name {
	case "durable":
		return "its messages end with the server"
	case "auto_delete":
		return "it ends with its last consumer"
	case "exclusive":
		return "it ends with its connection"
	case amqp.SingleActiveConsumerArg:
		if st.exclusive() {
			return "a partition has one owner at a time"
		}
		return "instances of a channel without partitions share its queue"
	case amqp.QueueTypeArg:
		if d.value != nil && d.value != amqp.QueueTypeQuorum && d.value != amqp.QueueTypeClassic {
			return "it does not forget what was handled; want quorum or classic"
		}
	case amqp.QueueMessageTTLArg:
		if d.value != nil {
			return "messages that wait for longer are gone"
		}
	case amqp.QueueTTLArg:
		if d.value != nil {
			return "it is gone with its messages when no consumer was there for so long"
		}
	case deliveryLimit:
		if n, ok := d.value.(int64); d.value != nil && (!ok || n >= 0) {
			return "a message that came back so often is gone"
		}
	}
	return ""
}

// unfitBound says whether a queue with a bound drops what is beyond it.
func unfitBound(name string, args amqp.Table, learned map[string]bool) error {
	overflow, _ := args[amqp.QueueOverflowArg].(string)
	if strings.HasPrefix(overflow, amqp.QueueOverflowRejectPublish) {
		return nil
	}
	for _, bound := range []string{amqp.QueueMaxLenArg, amqp.QueueMaxLenBytesArg} {
		if limit, bounded := args[bound]; bounded && (learned[bound] || learned[amqp.QueueOverflowArg]) {
			return unfit("queue "+name, fmt.Sprintf("has %s=%v and not x-overflow=reject-publish: when it is full, its oldest messages are gone", bound, limit),
				deleteQueue)
		}
	}
	return nil
}

// declareExchange makes an exchange of a channel, or looks whether the one that
// is there can serve.
func (c *Conn) declareExchange(ctx context.Context, name string) error {
	s, err := c.sub.session()
	if err != nil {
		return err
	}
	err = s.with(ctx, func(ch *amqp.Channel) error {
		return ch.ExchangeDeclare(name, amqp.ExchangeFanout, true, false, false, false, nil)
	})
	d, differs := settingOf(err)
	if !differs || d.name == "alternate-exchange" {
		if differs {
			return nil // where it sends what no group takes is its owner's concern
		}
		return err
	}
	return unfit("exchange "+name, fmt.Sprintf("has %v; want a durable fan-out exchange that stays", d), "delete it, and provision the channel and its groups again")
}
