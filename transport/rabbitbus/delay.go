package rabbitbus

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// A queue lets messages expire at its head only, so that delays of different
// lengths need queues of their own. As many as a delay has binary digits do for
// all: queue k holds what comes to it for 2^k units and passes it on to where
// the next lower digit is looked at. A message's routing key has the digits of
// its delay and, last, where it is going:
//
//	0.0.….1.0.1.orders
//
// Exchange "dovetail:later.2" looks at digit 2: a one leads to queue
// "dovetail:later.2", a zero to exchange "dovetail:later.1". Behind the last
// digit is exchange "dovetail:due", to which every channel is bound that
// something was sent to with a delay. The queues are quorum queues that
// dead-letter at least once (RabbitMQ 3.10), whatever the channels' are: others
// can lose messages on this way.
const (
	delayUnit   = 100 * time.Millisecond
	delayDigits = 28 // up to 310 days
	dueExchange = "dovetail:due"
)

func laterName(digit int) string { return "dovetail:later." + strconv.Itoa(digit) }

// delays remembers what of this was declared, by the connection of one link.
type delays struct {
	mu    sync.Mutex
	ready int             // digits that are there, from the lowest
	bound map[string]bool // targets that are bound to dueExchange
}

// forget lets everything be declared again.
func (d *delays) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ready, d.bound = 0, nil
}

// delayed returns where to publish what is due at to after wait.
func (c *Conn) delayed(ctx context.Context, to *target, wait time.Duration) (*target, error) {
	units := uint64((wait + delayUnit - 1) / delayUnit)
	if units >= 1<<delayDigits {
		return nil, fmt.Errorf("rabbitbus: a delay of %v is %w: at most %v: keep the message in an outbox until then", wait.Round(time.Hour), driver.ErrUnsupported, (1<<delayDigits)*delayUnit)
	}
	top := 0
	var key strings.Builder
	for digit := delayDigits - 1; digit >= 0; digit-- {
		if units>>digit&1 == 1 {
			key.WriteString("1.")
			top = max(top, digit)
		} else {
			key.WriteString("0.")
		}
	}
	key.WriteString(to.name())
	if err := c.declareDelay(ctx, to, top); err != nil {
		return nil, translate("prepare a delay", err)
	}
	return &target{exchange: laterName(top), key: key.String(), mandatory: true}, nil
}

// declareDelay makes the digits up to top and the way from the last to to.
func (c *Conn) declareDelay(ctx context.Context, to *target, top int) error {
	d := &c.delays
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ready > top && d.bound[to.name()] {
		return nil
	}
	s, err := c.sub.session()
	if err != nil {
		return err
	}
	do := func(f func(ch *amqp.Channel) error) {
		if err == nil {
			err = s.with(ctx, f)
		}
	}
	exchange := func(name string) {
		do(func(ch *amqp.Channel) error {
			return ch.ExchangeDeclare(name, amqp.ExchangeTopic, true, false, false, false, nil)
		})
	}
	if d.ready == 0 {
		exchange(dueExchange)
	}
	if !d.bound[to.name()] {
		do(func(ch *amqp.Channel) error {
			pattern := strings.Repeat("*.", delayDigits) + to.name()
			if to.exchange != "" {
				return ch.ExchangeBind(to.exchange, pattern, dueExchange, false, nil)
			}
			return ch.QueueBind(to.key, pattern, dueExchange, false, nil)
		})
	}
	for ; d.ready <= top && err == nil; d.ready++ {
		digit := d.ready
		name, next := laterName(digit), dueExchange
		if digit > 0 {
			next = laterName(digit - 1)
		}
		exchange(name)
		do(func(ch *amqp.Channel) error {
			_, err := ch.QueueDeclare(name, true, false, false, false, amqp.Table{
				amqp.QueueTypeArg: amqp.QueueTypeQuorum, amqp.QueueOverflowArg: amqp.QueueOverflowRejectPublish,
				amqp.QueueMessageTTLArg:  (delayUnit << digit).Milliseconds(),
				"x-dead-letter-exchange": next,
				"x-dead-letter-strategy": "at-least-once",
			})
			return err
		})
		skip := strings.Repeat("*.", delayDigits-1-digit)
		do(func(ch *amqp.Channel) error { return ch.QueueBind(name, skip+"1.#", name, false, nil) })
		do(func(ch *amqp.Channel) error { return ch.ExchangeBind(next, skip+"0.#", name, false, nil) })
		if err != nil {
			break
		}
	}
	if err != nil {
		return err
	}
	if d.bound == nil {
		d.bound = map[string]bool{}
	}
	d.bound[to.name()] = true
	return nil
}
