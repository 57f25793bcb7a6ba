package rabbitbus_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	amqp "github.com/rabbitmq/amqp091-go"
)

func TestMessage_is_read_by_a_plain_client(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	c := connect(t, optionsFor(t, srv))
	s := newQueue(t, c, 10)
	at := time.Date(2010, 12, 1, 8, 26, 0, 123456000, time.UTC)
	err := c.Send(within(t), []*driver.Message{{
		Channel: s.Channel.Name, ID: "536365", Source: "ordering", Type: "ordering.order-placed.v1", Time: at, ContentType: "application/json",
		Key: "17850", CorrelationID: "c", CausationID: "d", ReplyTo: "reply.x", Timeout: 1500 * time.Millisecond,
		Headers: driver.Headers{{Name: "tenant", Value: "acme"}, {Name: "tag", Value: "a"}, {Name: "tag", Value: "b"}, {Name: "CC", Value: "elsewhere"}},
		Body:    []byte(`{"sku":"85123A"}`),
	}})
	if err != nil {
		t.Fatal(err)
	}
	d, ok, err := dial(t, srv).Get(s.Channel.Name, true)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	for name, want := range map[string]any{
		"cloudEvents_specversion": "1.0", "cloudEvents_id": "536365", "cloudEvents_source": "ordering",
		"cloudEvents_type": "ordering.order-placed.v1", "cloudEvents_time": "2010-12-01T08:26:00.123456Z",
		"cloudEvents_partitionkey": "17850", "cloudEvents_correlationid": "c", "cloudEvents_causationid": "d",
		"cloudEvents_replyto": "reply.x", "cloudEvents_timeout": "1500", "tenant": "acme",
	} {
		if d.Headers[name] != want {
			t.Errorf("header %s is %v, want %v", name, d.Headers[name], want)
		}
	}
	if tags, _ := d.Headers["tag"].([]any); len(tags) != 2 || tags[0] != "a" || tags[1] != "b" {
		t.Errorf("header tag is %v", d.Headers["tag"])
	}
	if d.ContentType != "application/json" || d.MessageId != "536365" || d.DeliveryMode != amqp.Persistent || string(d.Body) != `{"sku":"85123A"}` {
		t.Errorf("%+v", d)
	}
}

func TestMessage_of_a_plain_client_is_read(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	c := connect(t, optionsFor(t, srv))
	s := newQueue(t, c, 10)
	ch := dial(t, srv)
	publish := func(p amqp.Publishing) *driver.Delivery {
		t.Helper()
		if err := ch.PublishWithContext(t.Context(), "", s.Channel.Name, true, false, p); err != nil {
			t.Fatal(err)
		}
		r := openReceiver(t, c, s)
		defer func() { _ = r.Close(within(t)) }()
		d := take(t, r, 1)[0]
		if err := r.Settle(within(t), []driver.Settlement{{Delivery: d}}); err != nil {
			t.Fatal(err)
		}
		return d
	}
	at := time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)
	for _, prefix := range []string{"cloudEvents_", "cloudEvents:", "cloudevents_"} {
		d := publish(amqp.Publishing{ContentType: "application/json", Body: []byte("{}"), Headers: amqp.Table{
			prefix + "specversion": "1.0", prefix + "id": "1", prefix + "source": "/python", prefix + "type": "a.b.v1",
			prefix + "time": at, prefix + "partitionkey": int64(17850), prefix + "comexampleextension": "kept",
		}})
		m := d.Message
		if d.Fault != nil || m.ID != "1" || m.Source != "/python" || m.Type != "a.b.v1" || !m.Time.Equal(at) || m.Key != "17850" ||
			m.ContentType != "application/json" || m.Headers.Get(prefix+"comexampleextension") != "kept" {
			t.Errorf("%s: %+v, fault %v", prefix, m, d.Fault)
		}
	}
	// Headers of every type that AMQP has survive as text.
	d := publish(amqp.Publishing{
		MessageId: "id", AppId: "shop", Type: "t", CorrelationId: "c", ReplyTo: "r", Timestamp: at, ContentEncoding: "gzip", Body: []byte("x"),
		Headers: amqp.Table{
			"bool": true, "int8": int8(-8), "uint8": byte(8), "int16": int16(-16), "uint16": uint16(16), "int32": int32(-32), "uint32": uint32(32),
			"int64": int64(-9007199254740993), "float32": float32(1.5), "float64": 2.25, "decimal": amqp.Decimal{Scale: 2, Value: 1234}, "nil": nil, "time": at,
			"text": []byte("bytes"), "bytes": []byte{0xff, 0x00}, "table": amqp.Table{"a": int32(1), "b": amqp.Table{"c": "d"}, "e": []byte{0xfe}},
			"mixed": []any{"one", int32(2), amqp.Table{"x": true}}, "empty": []any{}, "lines": "a\r\nb\x00", "x-death-like": "kept",
		},
	})
	m := d.Message
	for name, want := range map[string]string{
		"bool": "true", "int8": "-8", "uint8": "8", "int16": "-16", "uint16": "16", "int32": "-32", "uint32": "32", "int64": "-9007199254740993",
		"float32": "1.5", "float64": "2.25", "decimal": "12.34", "nil": "", "time": "2010-12-01T08:26:00Z", "text": "bytes", "bytes": "base64:/wA=",
		"table": `{"a":1,"b":{"c":"d"},"e":"base64:/g=="}`, "empty": "[]", "lines": "base64:YQ0KYgA=", "x-death-like": "kept", "content-encoding": "gzip",
	} {
		if got, ok := m.Headers.Lookup(name); !ok || got != want {
			t.Errorf("header %s is %q (there: %v), want %q", name, got, ok, want)
		}
	}
	var mixed []string
	for _, h := range m.Headers {
		if h.Name == "mixed" {
			mixed = append(mixed, h.Value)
		}
	}
	if strings.Join(mixed, "|") != `one|2|{"x":true}` {
		t.Errorf("header mixed is %q", mixed)
	}
	if d.Fault != nil || m.ID != "id" || m.Source != "shop" || m.Type != "t" || m.CorrelationID != "c" || m.ReplyTo != "r" || !m.Time.Equal(at) {
		t.Errorf("%+v, fault %v", m, d.Fault)
	}
	// What cannot be read is a fault, with all that there is.
	d = publish(amqp.Publishing{Headers: amqp.Table{"cloudEvents_specversion": "1.0", "cloudEvents_id": "1", "cloudEvents_time": "yesterday"}, Body: []byte("raw")})
	if d.Fault == nil || string(d.Message.Body) != "raw" || d.Message.ID != "1" || d.Message.Headers.Get("cloudEvents_time") != "yesterday" {
		t.Errorf("a time that is none: %+v, fault %v", d.Message, d.Fault)
	}
}
