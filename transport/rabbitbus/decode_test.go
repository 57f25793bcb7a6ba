package rabbitbus

import (
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// FuzzDecode reads messages of programs that may put any bytes anywhere. What it
// makes of them is text, whatever they are, and the body is as it came.
func FuzzDecode(f *testing.F) {
	for _, name := range []string{"tenant", "cloudEvents_id", "cloudEvents:time", "cloudEvents_due", "dovetail-header", "x-death", "CC", "\xff", ""} {
		for kind := range byte(6) {
			f.Add(name, []byte("a=b\r\n\x00\xff"), kind, "application/json", "id", []byte("body"))
		}
	}
	f.Fuzz(func(t *testing.T, name string, value []byte, kind byte, contentType, id string, body []byte) {
		var field any
		switch kind % 6 {
		case 0:
			field = string(value)
		case 1:
			field = value
		case 2:
			field = amqp.Table{name: value, "n": int64(len(value)), "t": amqp.Table{"b": true}}
		case 3:
			field = []any{string(value), value, nil, amqp.Decimal{Scale: uint8(len(value)), Value: 7}}
		case 4:
			field = time.Unix(int64(len(value))<<30, 0)
		case 5:
			field = float64(len(value)) / 3
		}
		d := amqp.Delivery{Headers: amqp.Table{name: field, "other": "kept"}, ContentType: contentType, ContentEncoding: id,
			MessageId: id, AppId: string(value), Type: contentType, CorrelationId: id, ReplyTo: name, Body: body}
		var m driver.Message
		_ = decode(&m, "channel", &d)
		for _, text := range []string{m.ID, m.Source, m.Type, m.Key, m.ContentType, m.CorrelationID, m.CausationID, m.ReplyTo} {
			if err := driver.ValidText(text); err != nil {
				t.Errorf("an attribute %q: %v", text, err)
			}
		}
		for _, h := range m.Headers {
			if driver.ValidText(h.Name) != nil || driver.ValidText(h.Value) != nil {
				t.Errorf("a header %q: %q is no text", h.Name, h.Value)
			}
		}
		if m.Headers.Get("other") != "kept" && name != "other" || string(m.Body) != string(body) {
			t.Errorf("the rest came as %+v", m)
		}
	})
}

func FuzzSettingOf(f *testing.F) {
	f.Add("PRECONDITION_FAILED - inequivalent arg 'x-message-ttl' for queue 'orders' in vhost '/': received none but current is the value '1000' of type 'signedint'")
	f.Add("PRECONDITION_FAILED - inequivalent arg 'durable' for queue 'orders' in vhost '/': received 'true' but current is 'false'")
	f.Add("PRECONDITION_FAILED - message size 17825792 is larger than configured max size 16777216")
	f.Fuzz(func(t *testing.T, reason string) {
		err := &amqp.Error{Code: amqp.PreconditionFailed, Reason: reason, Server: true}
		if s, ok := settingOf(err); ok {
			_ = s.harm(&channelState{}) + s.String()
			_ = s.adopt(amqp.Table{})
		}
		_ = serverMaximum(err)
	})
}
