package drivertest

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

var roundtripTests = map[string]test{
	"Send_carries_every_attribute":             {run: testAttributes},
	"Send_carries_a_message_with_nothing_set":  {run: testEmptyMessage},
	"Send_carries_headers_as_they_are":         {run: testHeaders},
	"Send_carries_bodies_of_any_size_and_byte": {run: testBodies},
	"Message_never_changes":                    {run: testOwnership},
	"Receive_takes_foreign_messages":           {run: testForeign, gap: needsInject},
}

func needsInject(_ driver.Capabilities, h Harness) string {
	if h.Inject == nil {
		return noHook + "Inject"
	}
	return ""
}

// awkward is text that some encoding or other trips over.
const awkward = ` "äöü €" 100%25 %zz 日本 🦉; a=b, c\d/ `

func testAttributes(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	now := time.Date(2026, 2, 28, 23, 59, 59, 123_456_000, time.UTC)
	want := &driver.Message{
		Channel: ch.Name, ID: "id" + awkward, Source: "source" + awkward, Type: "type" + awkward, Time: now,
		ContentType: `text/plain; charset="utf-8"`, Key: "key" + awkward, CorrelationID: "correlation" + awkward,
		CausationID: "causation" + awkward, ReplyTo: "reply" + awkward, Timeout: 1500 * time.Millisecond,
		Headers: driver.Headers{{Name: "tenant", Value: awkward}}, Body: []byte("body" + awkward),
	}
	if e.caps.Delay {
		want.Due = now
	}
	e.send(c, want)
	d := e.one(e.receiver(c, s))
	e.sameMessage(d, want)
}

func testEmptyMessage(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	want := &driver.Message{Channel: ch.Name, ID: "only"}
	e.send(c, want)
	e.sameMessage(e.one(e.receiver(c, s)), want)
}

func testHeaders(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	m := e.message(ch, "k", 0)
	m.Headers = driver.Headers{
		{Name: "empty", Value: ""}, {Name: "Mixed-Case", Value: "Value"}, {Name: "repeated", Value: "one"}, {Name: "repeated", Value: "two"},
		{Name: "repeated", Value: "one"}, {Name: "unicode", Value: "Grüße, 世界 🦉"}, {Name: "awkward", Value: awkward},
		{Name: "x_under.dot", Value: "percent %41 stays"}, {Name: "traceparent", Value: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"},
		{Name: "id", Value: "no attribute"}, {Name: "partitionkey", Value: "neither"}, {Name: "long", Value: strings.Repeat("x", 4000)},
	}
	e.send(c, m)
	e.sameMessage(e.one(e.receiver(c, s)), m)
}

func testBodies(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	limit := 1 << 20
	if e.caps.MaxBytes > 0 {
		limit = min(limit, e.caps.MaxBytes)
	}
	var ms []*driver.Message
	for i, body := range [][]byte{nil, {}, {0}, []byte("\r\n\x00"), []byte("\xff\xfe not UTF-8"), every, bytes.Repeat(every, limit/256)} {
		m := e.message(ch, "k", i)
		m.Body = body
		if over := m.Size() - limit; over > 0 {
			// Attributes count against the limit, in whatever encoding.
			m.Body = body[:len(body)-over-1024]
		}
		ms = append(ms, m)
	}
	e.send(c, ms...)
	r := e.receiver(c, s)
	for i, d := range e.take(r, len(ms)) {
		e.sameMessage(d, ms[i])
		e.settle(r, driver.Ack, d)
	}
}

// testOwnership looks whether a message is still what it was after it was sent,
// delivered, given back and delivered again.
func testOwnership(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	m := e.message(ch, "k", 0)
	m.Headers = driver.Headers{{Name: "a", Value: "b"}}
	want := m.Clone()
	e.send(c, m)
	r := e.receiver(c, s)
	first := e.one(r)
	e.sameMessage(first, want)
	e.settle(r, driver.Retry, first)
	e.sameMessage(e.one(r), want)
	e.sameMessage(first, want)
	if m.ID != want.ID || !bytes.Equal(m.Body, want.Body) || !slices.Equal(m.Headers, want.Headers) {
		e.Fatalf("the message that was sent has changed: %+v", m)
	}
}

func testForeign(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	headers := driver.Headers{{Name: "x-foreign", Value: "one"}, {Name: "x-other", Value: "two words"}}
	ctx, cancel := e.within()
	defer cancel()
	if err := e.h.Inject(ctx, ch.Name, headers, []byte("foreign")); err != nil {
		e.Fatalf("inject: %v", err)
	}
	e.send(c, e.message(ch, "k", 1))
	r := e.receiver(c, s)
	got := e.take(r, 2)
	slices.SortFunc(got, func(a, b *driver.Delivery) int { return len(a.Message.ID) - len(b.Message.ID) })
	d := got[0]
	if string(d.Message.Body) != "foreign" {
		e.Fatalf("foreign message has body %q, want %q (fault: %v)", d.Message.Body, "foreign", d.Fault)
	}
	for _, h := range headers {
		if v := d.Message.Headers.Get(h.Name); v != h.Value {
			e.Errorf("foreign header %s = %q, want %q", h.Name, v, h.Value)
		}
	}
	if got[1].Message.ID != "k/1" || got[1].Fault != nil {
		e.Errorf("the message after the foreign one: %s, fault %v", got[1].Message.ID, got[1].Fault)
	}
	e.settle(r, driver.Ack, got...)
	e.nothing(r, "a foreign message is settled like any other")
}

// sameMessage compares what came with what was sent. Among headers of different
// names the order is not compared: several protocols keep a map.
func (e *env) sameMessage(d *driver.Delivery, want *driver.Message) {
	e.Helper()
	got := d.Message
	if d.Fault != nil {
		e.Fatalf("delivery of %s has fault %v", want.ID, d.Fault)
	}
	check := func(what string, got, want any) {
		e.Helper()
		if got != want {
			e.Errorf("%s of %s is %q, want %q", what, want, got, want)
		}
	}
	check("Channel", got.Channel, want.Channel)
	check("ID", got.ID, want.ID)
	check("Source", got.Source, want.Source)
	check("Type", got.Type, want.Type)
	check("ContentType", got.ContentType, want.ContentType)
	check("Key", got.Key, want.Key)
	check("CorrelationID", got.CorrelationID, want.CorrelationID)
	check("CausationID", got.CausationID, want.CausationID)
	check("ReplyTo", got.ReplyTo, want.ReplyTo)
	check("Timeout", got.Timeout, want.Timeout)
	if !got.Time.Equal(want.Time.Truncate(time.Microsecond)) || got.Time.Location() != time.UTC {
		e.Errorf("Time is %v, want %v in UTC", got.Time, want.Time)
	}
	if !got.Due.Equal(want.Due) {
		e.Errorf("Due is %v, want %v", got.Due, want.Due)
	}
	if !bytes.Equal(got.Body, want.Body) {
		e.Errorf("Body of %s is %d bytes, want %d: %.40q, want %.40q", want.ID, len(got.Body), len(want.Body), got.Body, want.Body)
	}
	values := func(h driver.Headers) map[string][]string {
		m := map[string][]string{}
		for _, p := range h {
			name := strings.ToLower(p.Name)
			m[name] = append(m[name], p.Value)
		}
		return m
	}
	g, w := values(got.Headers), values(want.Headers)
	for name := range w {
		if !slices.Equal(g[name], w[name]) {
			e.Errorf("header %s = %q, want %q", name, g[name], w[name])
		}
		delete(g, name)
	}
	for name := range g {
		e.Errorf("header %s = %q was not sent", name, g[name])
	}
}
