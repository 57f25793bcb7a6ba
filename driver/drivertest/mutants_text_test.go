package drivertest_test

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/membus"
)

// eachHeader changes the value of every header.
func eachHeader(change func(string) string) func(*linkReceiver, *driver.Delivery) {
	return func(_ *linkReceiver, d *driver.Delivery) {
		for i, h := range d.Message.Headers {
			d.Message.Headers[i].Value = change(h.Value)
		}
	}
}

func eachID(change func(string) string) func(*linkReceiver, *driver.Delivery) {
	return func(_ *linkReceiver, d *driver.Delivery) { d.Message.ID = change(d.Message.ID) }
}

func cut(n int) func(string) string { return func(s string) string { return s[:min(n, len(s))] } }

// named sees names through a change, wherever they are.
func named(change func(string) string) mutant {
	channels := func(chs []driver.Channel) (out []driver.Channel) {
		for _, ch := range chs {
			ch.Name = change(ch.Name)
			out = append(out, ch)
		}
		return out
	}
	return mutant{
		provision: func(c driver.Conn, ctx context.Context, chs []driver.Channel, subs []driver.Subscription) error {
			var changed []driver.Subscription
			for _, s := range subs {
				s.Channel.Name, s.Group = change(s.Channel.Name), change(s.Group)
				changed = append(changed, s)
			}
			return c.Provision(ctx, channels(chs), changed)
		},
		send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
			var changed []*driver.Message
			for _, m := range ms {
				m = m.Clone()
				m.Channel = change(m.Channel)
				changed = append(changed, m)
			}
			return c.Send(ctx, changed)
		},
		opening: func(_ *membus.Conn, s *driver.Subscription) {
			s.Channel.Name, s.Group = change(s.Channel.Name), change(s.Group)
		},
		deliver: func(r *linkReceiver, d *driver.Delivery) { d.Message.Channel = r.asked.Channel.Name },
	}
}

func (m mutant) caughtBy(by string) mutant { m.by = by; return m }

var textMutants = map[string]mutant{
	"drops empty headers": {by: "Send_carries_headers_as_they_are", deliver: func(_ *linkReceiver, d *driver.Delivery) {
		var left driver.Headers
		for _, h := range d.Message.Headers {
			if h.Value != "" {
				left = append(left, h)
			}
		}
		d.Message.Headers = left
	}},
	"keeps one of several headers of a name": {by: "Send_carries_headers_as_they_are", deliver: func(_ *linkReceiver, d *driver.Delivery) {
		var left driver.Headers
		for _, h := range d.Message.Headers {
			left = left.With(h.Name, h.Value)
		}
		d.Message.Headers = left
	}},
	"takes a header called id for the id": {by: "Send_carries_headers_as_they_are", deliver: func(_ *linkReceiver, d *driver.Delivery) {
		if id, ok := d.Message.Headers.Lookup("id"); ok {
			d.Message.ID = id
		}
	}},
	"trims headers":                        {by: "Send_carries_headers_as_they_are", deliver: eachHeader(strings.TrimSpace)},
	"decodes a header that is not encoded": {by: "Send_carries_headers_as_they_are", deliver: eachHeader(driver.UnescapeValue)},
	"drops control characters from headers": {by: "Text_survives_in_headers", deliver: eachHeader(func(s string) string {
		return strings.Map(func(r rune) rune {
			if r < ' ' {
				return -1
			}
			return r
		}, s)
	})},
	"takes text for bytes of another program": {by: "Text_survives_in_headers", deliver: eachHeader(func(s string) string {
		if strings.HasPrefix(s, "base64:") {
			return strings.TrimPrefix(s, "base64:")
		}
		return s
	})},
	"cuts ids at 255 bytes":  {by: "Text_at_its_bounds_survives", deliver: eachID(cut(255))},
	"cuts keys at 255 bytes": {by: "Text_at_its_bounds_survives", deliver: func(_ *linkReceiver, d *driver.Delivery) { d.Message.Key = cut(255)(d.Message.Key) }},
	"writes keys in lower case": {by: "Text_of_a_key_decides_about_the_key_only|Send_carries_every_attribute",
		deliver: func(_ *linkReceiver, d *driver.Delivery) { d.Message.Key = strings.ToLower(d.Message.Key) }},
	"trims keys": {by: "Text_of_a_key_decides_about_the_key_only", deliver: func(_ *linkReceiver, d *driver.Delivery) {
		d.Message.Key = strings.TrimSpace(d.Message.Key)
	}},
	"rounds time to milliseconds": {by: "Send_carries_every_attribute",
		deliver: func(_ *linkReceiver, d *driver.Delivery) { d.Message.Time = d.Message.Time.Truncate(time.Millisecond) }},
	"tells time in another zone": {by: "Send_carries_every_attribute",
		deliver: func(_ *linkReceiver, d *driver.Delivery) {
			d.Message.Time = d.Message.Time.In(time.FixedZone("", 3600))
		}},
	"rounds time-outs to seconds": {by: "Send_carries_every_attribute",
		deliver: func(_ *linkReceiver, d *driver.Delivery) { d.Message.Timeout = d.Message.Timeout.Truncate(time.Second) }},
	"carries no causation": {by: "Send_carries_every_attribute", deliver: func(_ *linkReceiver, d *driver.Delivery) { d.Message.CausationID = "" }},
	"takes bodies for text": {by: "Send_carries_bodies_of_any_size_and_byte", deliver: func(_ *linkReceiver, d *driver.Delivery) {
		d.Message.Body = []byte(strings.ToValidUTF8(string(d.Message.Body), "?"))
	}},
	"cuts bodies at 64 KiB": {by: "Send_carries_bodies_of_any_size_and_byte",
		deliver: func(_ *linkReceiver, d *driver.Delivery) {
			d.Message.Body = d.Message.Body[:min(64<<10, len(d.Message.Body))]
		}},
	"delivers foreign bytes as a fault": {by: "Foreign_header_bytes_come_as_text", deliver: func(_ *linkReceiver, d *driver.Delivery) {
		for _, h := range d.Message.Headers {
			if strings.HasPrefix(h.Value, "base64:") && h.Name == "x-foreign" {
				d.Fault = errors.New("a header is no text")
			}
		}
	}},
	"delivers foreign keys as they are": {by: "Foreign_key_bytes_come_as_text",
		deliver: func(_ *linkReceiver, d *driver.Delivery) { d.Message.Key = string(driver.ForeignBytes(d.Message.Key)) }},
	"makes foreign text valid by leaving bytes out": {by: "Foreign_header_bytes_come_as_text", deliver: eachHeader(func(s string) string {
		return strings.ToValidUTF8(string(driver.ForeignBytes(s)), "")
	})},
	"takes dots, dashes and underscores for one": named(func(s string) string {
		return strings.NewReplacer(".", "-", "_", "-").Replace(s)
	}).caughtBy("Names_that_differ_in_a_character_are_two"),
	"leaves dots out of names":     named(func(s string) string { return strings.ReplaceAll(s, ".", "") }).caughtBy("Names_that_differ_in_a_character_are_two"),
	"cuts names at 100 characters": named(cut(100)).caughtBy("Names_of_200_characters_stay_apart"),
	"takes groups of a channel for one": mutant{
		provision: func(c driver.Conn, ctx context.Context, chs []driver.Channel, subs []driver.Subscription) error {
			var changed []driver.Subscription
			for _, s := range subs {
				s.Group = cut(1)(s.Group)
				changed = append(changed, s)
			}
			return c.Provision(ctx, chs, changed)
		},
		opening: func(_ *membus.Conn, s *driver.Subscription) { s.Group = cut(1)(s.Group) },
	}.caughtBy("Groups_that_differ_in_a_character_are_two"),
}
