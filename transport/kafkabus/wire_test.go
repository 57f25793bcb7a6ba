package kafkabus

import (
	"fmt"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/twmb/franz-go/pkg/kgo"
)

func sample() *driver.Message {
	return &driver.Message{Channel: "orders", ID: "0197f2a1-0000-7000-8000-100000000000", Source: "shop", Type: "shop.order-placed.v1",
		Time: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC), ContentType: "application/json", Key: "k1", CorrelationID: "c",
		Headers: driver.Headers{{Name: "traceparent", Value: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}}, Body: make([]byte, 1024)}
}

func TestWire_headers_that_look_like_ours_come_out_as_they_were(t *testing.T) {
	m := sample()
	m.Headers = driver.Headers{{Name: "ce_id", Value: "mine"}, {Name: "CE_Source", Value: "a=b"}, {Name: "content-type", Value: "x"},
		{Name: "dovetail-header", Value: "y=z"}, {Name: "Dovetail-Channel", Value: ""}, {Name: "a=b%", Value: "1"}, {Name: "ce_ours", Value: "2"}}
	var e encoder
	e.grow([]*driver.Message{m})
	var got driver.Message
	if fault := read(&got, "orders", e.encode(m, "orders")); fault != nil {
		t.Fatal(fault)
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", *m) {
		t.Errorf("got  %+v\nwant %+v", got.Headers, m.Headers)
	}
}

func read(m *driver.Message, channel string, r *kgo.Record) error {
	return decode(m, channel, r, make([]byte, 0, sizeOf(r)))
}

func FuzzWire(f *testing.F) {
	f.Add("ce_time", "yesterday", "key", []byte("body"))
	f.Add("ce_\xff", "\xff", "", []byte(nil))
	f.Add("dovetail-header", "=", "k", []byte{0})
	f.Fuzz(func(t *testing.T, name, value, key string, body []byte) {
		// Whatever others send is delivered, and its body is what they sent.
		var m driver.Message
		r := &kgo.Record{Key: []byte(key), Value: body, Headers: []kgo.RecordHeader{{Key: name, Value: []byte(value)}}}
		_ = read(&m, "c", r)
		if string(m.Body) != string(body) {
			t.Fatalf("body %q came as %q", body, m.Body)
		}
		for _, text := range []string{m.Key, m.ID, m.ContentType, m.Headers.Get(name)} {
			if err := driver.ValidText(text); err != nil {
				t.Fatalf("%q came as %q: %v", value, text, err)
			}
		}
		// And what we send comes out as it was.
		want := driver.Message{Channel: "c", ID: "1", Key: key, Headers: driver.Headers{{Name: name, Value: value}}, Body: body}
		if driver.ValidText(name) != nil || driver.ValidText(value) != nil || driver.ValidText(key) != nil {
			return // Prepare refuses it
		}
		var e encoder
		e.grow([]*driver.Message{&want})
		var got driver.Message
		fault := read(&got, "c", e.encode(&want, "c"))
		if fault == nil && (got.Headers.Get(name) != value || got.Key != key) {
			t.Fatalf("header %q=%q came as %q, key %q as %q", name, value, got.Headers, key, got.Key)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	ms := make([]*driver.Message, 500)
	for i := range ms {
		ms[i] = sample()
	}
	var e encoder
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		if n%len(ms) == 0 {
			e.reset()
			e.grow(ms)
		}
		e.encode(ms[n%len(ms)], "orders")
	}
}

func BenchmarkDecode(b *testing.B) {
	m := sample()
	var e encoder
	e.grow([]*driver.Message{m})
	r := e.encode(m, "orders")
	b.ReportAllocs()
	var rooms rooms
	for b.Loop() {
		var got driver.Message
		_ = decode(&got, "orders", r, rooms.take(sizeOf(r)))
	}
}
