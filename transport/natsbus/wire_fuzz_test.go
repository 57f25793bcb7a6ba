package natsbus

import (
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
)

// FuzzDecode reads header lines as the server hands them on, of programs that may
// write any bytes. What it makes of them is text, the body is as it came, and
// what has no fault is carried on as it is.
func FuzzDecode(f *testing.F) {
	for _, lines := range []string{
		"", "ce-id: 1\r\nce-source: s\r\nce-type: t.v1\r\n", "ce-time: yesterday\r\nCE-ID: %00%0d%ff\r\n", "ce-due: 9999-12-31T23:59:59Z\r\nce-timeout: -1\r\n",
		"dovetail-header: x%3Dy\r\n", "dovetail-header: =\r\ndovetail-header: %zz\r\n", "Nats-Rollup: all\r\nStatus: 503\r\n", "a: \x1b\x7f\xff\r\na: 2\r\n",
		"ce-specversion: 9\r\n", "Content-Type: application/cloudevents+json\r\n",
	} {
		f.Add([]byte(lines), []byte("{}"))
	}
	f.Fuzz(func(t *testing.T, lines, body []byte) {
		header, err := nats.DecodeHeadersMsg(append(append([]byte("NATS/1.0\r\n"), lines...), "\r\n"...))
		if err != nil {
			return // the client hands on no such message
		}
		m := &driver.Message{}
		fault := decode(m, "orders", header, body)
		if m.Channel != "orders" || string(m.Body) != string(body) {
			t.Fatalf("it came as %+v", m)
		}
		for _, text := range []string{m.ID, m.Source, m.Type, m.Key, m.ContentType, m.CorrelationID, m.CausationID, m.ReplyTo} {
			if err := driver.ValidText(text); err != nil {
				t.Fatalf("an attribute %q: %v", text, err)
			}
		}
		for _, h := range m.Headers {
			if driver.ValidText(h.Name) != nil || driver.ValidText(h.Value) != nil {
				t.Fatalf("a header %q: %q is no text", h.Name, h.Value)
			}
		}
		if fault != nil || m.Time.Year() < 1 || m.Time.Year() > 9999 || m.Due.Year() < 1 || m.Due.Year() > 9999 {
			return
		}
		again, err := over(t, m)
		if err != nil {
			t.Fatalf("%+v cannot be read again: %v", m, err)
		}
		if again.ID != m.ID || again.Type != m.Type || again.Key != m.Key || again.ReplyTo != m.ReplyTo || len(again.Headers) != len(m.Headers) {
			t.Fatalf("%+v came back as %+v", m, again)
		}
		for i, h := range m.Headers {
			if n := again.Headers.Get(h.Name); m.Headers.Get(h.Name) == h.Value && n != h.Value {
				t.Fatalf("header %d %q: %q came back as %q", i, h.Name, h.Value, n)
			}
		}
	})
}
