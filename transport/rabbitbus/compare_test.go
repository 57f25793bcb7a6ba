package rabbitbus_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	amqp "github.com/rabbitmq/amqp091-go"
)

// A made is a queue that somebody made before the channel was provisioned.
type made struct {
	transient, autoDelete, exclusive bool

	args amqp.Table
	says string // what the conflict names; "" where the queue serves
}

var queuesMadeBefore = map[string]made{
	"ttl":                {args: amqp.Table{"x-message-ttl": int32(60_000)}, says: "x-message-ttl=60000"},
	"ttl, quorum":        {args: amqp.Table{"x-queue-type": "quorum", "x-message-ttl": int64(60_000)}, says: "x-message-ttl=60000"},
	"expires":            {args: amqp.Table{"x-expires": int32(600_000)}, says: "x-expires=600000"},
	"drop-head":          {args: amqp.Table{"x-max-length": int32(10), "x-overflow": "drop-head"}, says: "x-max-length=10"},
	"bound, no word":     {args: amqp.Table{"x-queue-type": "quorum", "x-max-length": int32(10)}, says: "reject-publish"},
	"bytes, no word":     {args: amqp.Table{"x-max-length-bytes": int32(10_000)}, says: "x-max-length-bytes=10000"},
	"delivery limit":     {args: amqp.Table{"x-queue-type": "quorum", "x-delivery-limit": int32(3)}, says: "x-delivery-limit=3"},
	"transient":          {transient: true, says: "durable=false"},
	"auto-delete":        {autoDelete: true, says: "auto_delete=true"},
	"exclusive":          {exclusive: true, says: "exclusive"},
	"stream":             {args: amqp.Table{"x-queue-type": "stream"}, says: "x-queue-type=stream"},
	"one consumer":       {args: amqp.Table{"x-single-active-consumer": true}, says: "x-single-active-consumer=true"},
	"classic":            {},
	"quorum":             {args: amqp.Table{"x-queue-type": "quorum"}},
	"bound that refuses": {args: amqp.Table{"x-queue-type": "quorum", "x-max-length": int32(10), "x-overflow": "reject-publish"}},
	"bound, to others":   {args: amqp.Table{"x-max-length": int32(10), "x-overflow": "reject-publish-dlx", "x-dead-letter-exchange": "amq.fanout"}},
	"priorities, lazy":   {args: amqp.Table{"x-max-priority": int32(3), "x-queue-mode": "lazy"}},
}

func TestProvision_compares_queues_that_were_made_before(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	c := connect(t, optionsFor(t, srv))
	ch := dial(t, srv) // whose end is the exclusive queue's
	for name, m := range queuesMadeBefore {
		channel := driver.Channel{Name: fmt.Sprintf("made-%d", time.Now().UnixNano())}
		topic := driver.Channel{Name: "topic-" + channel.Name, Kind: driver.PublishSubscribe}
		for _, queue := range []string{channel.Name, topic.Name + ":worker"} {
			if _, err := ch.QueueDeclare(queue, !m.transient, m.autoDelete, m.exclusive, false, m.args); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
		s := driver.Subscription{Channel: topic, Group: "worker", Instance: "1", Window: 10}
		for what, err := range map[string]error{
			"channel": c.Provision(within(t), []driver.Channel{channel}, nil),
			"group":   c.Provision(within(t), nil, []driver.Subscription{s}),
		} {
			switch {
			case m.says == "" && err != nil:
				t.Errorf("%s, %s: %v; want that it is taken", name, what, err)
			case m.says != "" && (!errors.Is(err, driver.ErrConflict) || !strings.Contains(err.Error(), m.says) || !strings.Contains(err.Error(), channel.Name)):
				t.Errorf("%s, %s: %v; want a conflict that says %q", name, what, err, m.says)
			}
		}
		if m.says == "" {
			sendAll(t, c, numbered(channel.Name, 5, 2))
			s.Channel = channel
			r := openReceiver(t, c, s)
			for _, d := range take(t, r, 5) {
				if err := r.Settle(within(t), []driver.Settlement{{Delivery: d}}); err != nil {
					t.Errorf("%s: settle: %v", name, err)
				}
			}
			if err := r.Close(within(t)); err != nil {
				t.Errorf("%s: close: %v", name, err)
			}
		}
	}
}

func TestProvision_compares_partitions_and_exchanges_that_were_made_before(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	o := optionsFor(t, srv)
	o.Partitions = 2
	c := connect(t, o)
	ch := dial(t, srv)
	id := fmt.Sprint(time.Now().UnixNano())
	for _, queue := range []string{"made-" + id + "#0", "made-" + id + "#1"} {
		if _, err := ch.QueueDeclare(queue, true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
	}
	err := c.Provision(within(t), []driver.Channel{{Name: "made-" + id}}, nil)
	if !errors.Is(err, driver.ErrConflict) || !strings.Contains(err.Error(), "x-single-active-consumer not set") {
		t.Errorf("partitions that several may consume: %v", err)
	}
	for i, kind := range []string{amqp.ExchangeDirect, amqp.ExchangeTopic, amqp.ExchangeFanout} {
		name := fmt.Sprintf("exchange-%s-%d", id, i)
		if err := ch.ExchangeDeclare(name, kind, false, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
		err := c.Provision(within(t), []driver.Channel{{Name: name, Kind: driver.PublishSubscribe}}, nil)
		if !errors.Is(err, driver.ErrConflict) || !strings.Contains(err.Error(), name) {
			t.Errorf("an exchange of type %s that ends with the server: %v", kind, err)
		}
	}
}

// What a policy does to a queue shows in the management plugin alone.
func TestProvision_sees_policies_that_lose_messages(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	c := connect(t, optionsFor(t, srv))
	id := fmt.Sprint(time.Now().UnixNano())
	for definition, says := range map[string]string{
		`{"message-ttl":1000}`: "message-ttl", `{"expires":100000}`: "expires", `{"delivery-limit":3}`: "delivery-limit",
		`{"max-length":5}`: "", `{"dead-letter-exchange":"amq.fanout"}`: "",
	} {
		name := fmt.Sprintf("policed-%s-%d", id, len(definition))
		ctl(t, srv, "set_policy", name, "^"+name+"$", definition)
		err := c.Provision(within(t), []driver.Channel{{Name: name}}, nil)
		switch {
		case says == "" && err != nil:
			t.Errorf("policy %s: %v; want that it is taken: new queues refuse at a bound", definition, err)
		case says != "" && (!errors.Is(err, driver.ErrConflict) || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "policy "+name)):
			t.Errorf("policy %s: %v; want a conflict that names both", definition, err)
		}
		ctl(t, srv, "clear_policy", name)
	}
}
