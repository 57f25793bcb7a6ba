package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// broker checks a broker.
func (d *doctor) broker(ctx context.Context, raw string) {
	began := time.Now()
	opening, cancel := context.WithTimeout(ctx, d.a.timeout)
	defer cancel()
	conn, err := driver.Open(opening, raw)
	if err != nil {
		kind := driver.Classify(err)
		if kind == driver.Unclassified {
			kind = driver.Retryable
		}
		d.say("broker", broken, err.Error(), remedyOf(kind))
		return
	}
	defer d.closeBroker(ctx, conn)
	d.say("broker", fine, fmt.Sprintf("%s reached in %v", driver.Redact(raw), time.Since(began).Round(time.Millisecond)), "")
	d.version(ctx, conn)
	d.abilities(conn.Capabilities())
	d.health(ctx, conn)
	d.scratch(ctx, conn)
	d.channels(ctx, conn)
}

func (d *doctor) closeBroker(ctx context.Context, conn driver.Conn) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.a.timeout)
	defer cancel()
	if err := conn.Close(ctx); err != nil {
		d.say("broker", warning, "close: "+err.Error(), remedyOf(conn.Classify(err)))
	}
}

// health says what the broker finds wrong with itself.
func (d *doctor) health(ctx context.Context, conn driver.Conn) {
	const check = "broker: health"
	e, ok := conn.(driver.Examiner)
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, d.a.timeout)
	defer cancel()
	found, err := e.Examine(ctx)
	switch {
	case errors.Is(err, driver.ErrUnsupported):
		d.say(check, skipped, err.Error(), "")
	case err != nil:
		d.say(check, warning, err.Error(), remedyOf(conn.Classify(err)))
	case len(found) == 0:
		d.say(check, fine, "it tells of nothing that is away, behind or cut off", "")
	}
	for _, f := range found {
		state := warning
		if f.Stops {
			state = broken
		}
		detail := f.Subject + ": " + f.Problem
		if n := len(f.Concerns); n > 0 {
			const most = 3
			detail += ": " + strings.Join(f.Concerns[:min(n, most)], ", ")
			if n > most {
				detail += fmt.Sprintf(" and %d more", n-most)
			}
		}
		d.say(check, state, detail, f.Remedy)
	}
}

// abilities says what the transport promises.
func (d *doctor) abilities(c driver.Capabilities) {
	order := map[driver.Order]string{driver.OrderNone: "no order", driver.OrderInstance: "order by key for one instance of a group",
		driver.OrderOwner: "order by key across instances"}[c.Order]
	if c.Order < driver.OrderOwner && c.PartitionOwners {
		order += ", and across instances on channels with partitions (partitions=8 in the URL)"
	}
	if !c.Durable {
		d.say("broker: promises", warning, c.Name+" does not keep what it confirmed; "+order, "use a durable transport for what must not be lost")
		return
	}
	d.say("broker: promises", fine, c.Name+" keeps what it confirmed; "+order, "")
}

// scratch does with a channel of the doctor's own what a service does with its.
func (d *doctor) scratch(ctx context.Context, conn driver.Conn) {
	ctx, cancel := context.WithTimeout(ctx, d.a.timeout)
	defer cancel()
	id := dovetail.NewID()
	name := "dovetail-doctor." + id[24:]
	ch := driver.Channel{Name: name}
	sub := driver.Subscription{Channel: ch, Group: "dovetail-doctor", Instance: "doctor-" + id[24:], Window: 1}
	fail := func(doing string, err error) {
		d.say("broker: "+doing, broken, err.Error(), remedyOf(conn.Classify(err)))
	}
	if err := conn.Provision(ctx, []driver.Channel{ch}, []driver.Subscription{sub}); err != nil {
		fail("make a channel", err)
		return
	}
	defer d.removeScratch(context.WithoutCancel(ctx), conn, name)
	d.say("broker: make a channel", fine, name, "")
	began := time.Now()
	m := &driver.Message{ID: id, Source: "dovetail-doctor", Type: "dovetail-doctor.hello.v1", Channel: name,
		Time: time.Now().UTC().Truncate(time.Microsecond), ContentType: "text/plain", Body: []byte("hello")}
	if err := conn.Send(ctx, []*driver.Message{m}); err != nil {
		fail("send", err)
		return
	}
	d.say("broker: send", fine, fmt.Sprintf("confirmed in %v", time.Since(began).Round(time.Microsecond)), "")
	if err := receiveOne(ctx, conn, sub, id); err != nil {
		fail("receive", err)
		return
	}
	d.say("broker: receive", fine, fmt.Sprintf("there and settled %v after it was sent", time.Since(began).Round(time.Microsecond)), "")
}

// receiveOne receives and settles the message of that id.
func receiveOne(ctx context.Context, conn driver.Conn, sub driver.Subscription, id string) (err error) {
	r, err := conn.OpenReceiver(ctx, sub)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close(context.WithoutCancel(ctx))) }()
	for {
		ds, err := r.Receive(ctx, 1)
		if err != nil {
			return err
		}
		for _, delivery := range ds {
			if err := r.Settle(ctx, []driver.Settlement{{Delivery: delivery, Outcome: driver.Ack}}); err != nil {
				return err
			}
			if delivery.Message.ID == id {
				return nil
			}
		}
	}
}

func (d *doctor) removeScratch(ctx context.Context, conn driver.Conn, name string) {
	ctx, cancel := context.WithTimeout(ctx, d.a.timeout)
	defer cancel()
	r, ok := conn.(driver.Remover)
	if !ok {
		d.say("broker: remove a channel", warning, "this transport cannot; "+name+" stays", "remove it with the broker's own tools")
		return
	}
	if err := r.RemoveChannel(ctx, name); err != nil {
		d.say("broker: remove a channel", broken, err.Error()+"; "+name+" stays", remedyOf(conn.Classify(err)))
		return
	}
	d.say("broker: remove a channel", fine, name, "")
}
