package bench

import (
	"context"
	"errors"
	"sync"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// rawRabbit is amqp091-go used as its documents say for throughput: a window of
// unconfirmed messages, a prefetch window, one acknowledgement for a hundred
// messages. Queues are quorum queues, messages persistent, as rabbitbus makes
// them. Requests go over a queue that lives as long as the round and are
// answered by direct reply-to, unconfirmed.
type rawRabbit struct {
	pub, sub *amqp.Connection
	send     *amqp.Channel // in confirm mode, for those who wait for each message
	asking   *amqp.Channel // of the round that measures requests
	ask      *asker
	envelope amqp.Table // what its messages carry beside the body; nil for nothing
}

func (r *rawRabbit) carry() {
	r.envelope = amqp.Table{}
	for _, a := range envelopeOf("cloudEvents_", false) {
		r.envelope[a.Name] = a.Value
	}
}

const (
	rabbitPrefetch = 2000
	rabbitAckEach  = 100
	// rabbitAckAfter is how long acknowledgements wait for their hundred.
	rabbitAckAfter = 5 * time.Millisecond
	directReply    = "amq.rabbitmq.reply-to"
)

func newRawRabbit(url string) (r *rawRabbit, err error) {
	r = &rawRabbit{}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close(context.Background()))
		}
	}()
	if r.pub, err = amqp.Dial(url); err != nil {
		return r, err
	}
	if r.sub, err = amqp.Dial(url); err != nil {
		return r, err
	}
	if r.send, err = r.pub.Channel(); err == nil {
		err = r.send.Confirm(false)
	}
	return r, err
}

func (r *rawRabbit) Close(context.Context) error {
	var errs []error
	for _, c := range []*amqp.Connection{r.pub, r.sub} {
		if c != nil && !c.IsClosed() {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// on runs f with a channel of its own.
func on(c *amqp.Connection, f func(*amqp.Channel) error) error {
	ch, err := c.Channel()
	if err != nil {
		return err
	}
	if err := f(ch); err != nil {
		_ = ch.Close() // closed by the error already, as a rule
		return err
	}
	return ch.Close()
}

func (r *rawRabbit) Prepare(_ context.Context, channel string) (func() error, error) {
	err := on(r.pub, func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare(channel, true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeQuorum})
		return err
	})
	return func() error {
		return on(r.pub, func(ch *amqp.Channel) error {
			_, err := ch.QueueDelete(channel, false, false, false)
			return err
		})
	}, err
}

func (r *rawRabbit) persistent(body []byte) amqp.Publishing {
	return amqp.Publishing{DeliveryMode: amqp.Persistent, ContentType: "application/octet-stream", Headers: r.envelope, Body: body}
}

var errRefused = errors.New("the server refused the message")

func (r *rawRabbit) Send(ctx context.Context, channel string, body []byte) error {
	c, err := r.send.PublishWithDeferredConfirmWithContext(ctx, "", channel, true, false, r.persistent(body))
	if err != nil {
		return err
	}
	ok, err := c.WaitContext(ctx)
	if err == nil && !ok {
		err = errRefused
	}
	return err
}

func (r *rawRabbit) Stream(ctx context.Context, channel string, count, window int, body func(int) []byte) error {
	return on(r.pub, func(ch *amqp.Channel) error {
		if err := ch.Confirm(false); err != nil {
			return err
		}
		confirms := ch.NotifyPublish(make(chan amqp.Confirmation, window))
		open := 0
		for n := 0; n < count || open > 0; {
			if n < count && open < window {
				if err := ch.PublishWithContext(ctx, "", channel, true, false, r.persistent(body(n))); err != nil {
					return err
				}
				n++
				open++
				continue
			}
			select {
			case c, ok := <-confirms:
				if !ok || !c.Ack {
					return errRefused
				}
				open--
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		return nil
	})
}

func (r *rawRabbit) Consume(ctx context.Context, channel string, handle func([]byte)) (func() error, error) {
	ch, err := r.sub.Channel()
	if err != nil {
		return nil, err
	}
	if err := ch.Qos(rabbitPrefetch, 0, false); err != nil {
		return nil, errors.Join(err, ch.Close())
	}
	in, err := ch.ConsumeWithContext(ctx, channel, "bench", false, false, false, false, nil)
	if err != nil {
		return nil, err
	}
	ended := make(chan error, 1)
	go func() {
		late := time.NewTicker(rabbitAckAfter)
		defer late.Stop()
		var last amqp.Delivery
		open := 0
		ack := func() error {
			if open == 0 {
				return nil
			}
			open = 0
			return last.Ack(true)
		}
		var failed error
		for failed == nil {
			select {
			case d, ok := <-in:
				if !ok {
					ended <- ack()
					return
				}
				handle(d.Body)
				last = d
				if open++; open == rabbitAckEach {
					failed = ack()
				}
			case <-late.C:
				failed = ack()
			}
		}
		ended <- failed
	}()
	return func() error {
		err := ch.Cancel("bench", false)
		return errors.Join(err, <-ended, ch.Close())
	}, nil
}

// Answer takes requests from a classic queue and answers each on the channel
// that it came over.
func (r *rawRabbit) Answer(ctx context.Context, channel string) (stop func() error, err error) {
	serve, err := r.sub.Channel()
	if err != nil {
		return nil, err
	}
	if _, err := serve.QueueDeclare(channel, false, true, false, false, nil); err != nil {
		return nil, err
	}
	in, err := serve.ConsumeWithContext(ctx, channel, "", true, false, false, false, nil)
	if err != nil {
		return nil, err
	}
	client, err := r.pub.Channel()
	if err != nil {
		return nil, errors.Join(err, serve.Close())
	}
	answers, err := client.ConsumeWithContext(ctx, directReply, "", true, false, false, false, nil)
	if err != nil {
		return nil, errors.Join(err, serve.Close())
	}
	r.ask = &asker{waits: map[string]chan struct{}{}}
	r.asking = client
	var running sync.WaitGroup
	running.Go(func() {
		for d := range in {
			// An answer that is lost is a request that fails.
			_ = serve.PublishWithContext(ctx, "", d.ReplyTo, false, false, amqp.Publishing{CorrelationId: d.CorrelationId, Headers: r.envelope, Body: d.Body})
		}
	})
	running.Go(func() {
		for d := range answers {
			r.ask.answer(d.CorrelationId)
		}
	})
	return func() error {
		err := errors.Join(client.Close(), serve.Close())
		running.Wait()
		return err
	}, nil
}

func (r *rawRabbit) Request(ctx context.Context, channel string, body []byte) error {
	id, answered := r.ask.begin()
	err := r.asking.PublishWithContext(ctx, "", channel, false, false, amqp.Publishing{ReplyTo: directReply, CorrelationId: id, Headers: r.envelope, Body: body})
	if err != nil {
		return err
	}
	return waitFor(ctx, answered)
}
