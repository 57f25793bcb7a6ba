package dovetail_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

func TestPrepare_names_the_field_that_no_broker_or_database_would_take(t *testing.T) {
	opts := quick
	opts.Limits.HeaderBytes = 64 << 10
	svc := dovetail.New("mail", scriptedConn(t), opts)
	svc.Declare(welcome)
	binary := string([]byte{0x01, 0x8f, 0xff, 0xfe})
	for _, c := range []struct {
		field  string
		change func(m *driver.Message)
	}{
		{"key", func(m *driver.Message) { m.Key = binary }},
		{"key", func(m *driver.Message) { m.Key = strings.Repeat("k", driver.MaxKey+1) }},
		{"id", func(m *driver.Message) { m.ID = "a\nb" }},
		{"id", func(m *driver.Message) { m.ID = strings.Repeat("i", driver.MaxID+1) }},
		{"source", func(m *driver.Message) { m.Source = strings.Repeat("s", driver.MaxSource+1) }},
		{"correlation id", func(m *driver.Message) { m.CorrelationID = binary }},
		{"causation id", func(m *driver.Message) { m.CausationID = "a\x00b" }},
		{"content type", func(m *driver.Message) { m.ContentType = "text/\r" }},
		{"reply channel", func(m *driver.Message) { m.ReplyTo = binary }},
		{"channel", func(m *driver.Message) { m.Channel = "mail\n" }},
		{"header tenant", func(m *driver.Message) { m.Headers = driver.Headers{{Name: "tenant", Value: binary}} }},
		{"header name", func(m *driver.Message) { m.Headers = driver.Headers{{Name: "ten ant", Value: "x"}} }},
		{"header name", func(m *driver.Message) { m.Headers = driver.Headers{{Name: "tänant", Value: "x"}} }},
		{"header name", func(m *driver.Message) { m.Headers = driver.Headers{{Name: strings.Repeat("n", 256), Value: "x"}} }},
		{"due", func(m *driver.Message) { m.Due = time.Date(58878, 1, 1, 0, 0, 0, 0, time.UTC) }},
		{"due", func(m *driver.Message) { m.Due = time.Now().Add(dovetail.MaxDelay + time.Hour) }},
		{"due", func(m *driver.Message) { m.Due = time.Date(-3, 1, 1, 0, 0, 0, 0, time.UTC) }},
		{"time", func(m *driver.Message) { m.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }},
		{"timeout", func(m *driver.Message) { m.Timeout = dovetail.MaxTimeout + 1 }},
		{"timeout", func(m *driver.Message) { m.Timeout = -1 }},
	} {
		m := &driver.Message{ID: "1", Channel: welcome.Spec().Channel.Name, Type: welcome.Spec().Type()}
		c.change(m)
		err := svc.Prepare(t.Context(), []*driver.Message{m})
		if !errors.Is(err, dovetail.ErrInvalid) || !strings.Contains(err.Error(), ": "+c.field+" ") && !strings.Contains(err.Error(), ": "+c.field+":") {
			t.Errorf("want an ErrInvalid that names %s, got %v", c.field, err)
		}
		if err := svc.Send(t.Context(), []*driver.Message{m}); !errors.Is(err, dovetail.ErrInvalid) {
			t.Errorf("send with %s: %v", c.field, err)
		}
	}
}

func TestPrepare_knows_the_limit_of_the_transport(t *testing.T) {
	conn := scriptedConn(t)
	opts := quick
	opts.Limits.Body = 32 << 20
	svc := dovetail.New("mail", conn, opts)
	raw := dovetail.NewCommand[[]byte]("mail.raw")
	svc.Declare(raw)
	m := &driver.Message{ID: "1", Source: "mail", Channel: "mail.raw", Type: "mail.raw.v1", Body: make([]byte, 20<<20)}
	m.Body = m.Body[:len(m.Body)-(m.Size()-conn.Capabilities().MaxBytes)]
	if err := svc.Prepare(t.Context(), []*driver.Message{m}); err != nil {
		t.Errorf("%d bytes: %v", m.Size(), err)
	}
	m.Body = m.Body[:len(m.Body)+1]
	if err := svc.Prepare(t.Context(), []*driver.Message{m}); !errors.Is(err, dovetail.ErrInvalid) || !errors.Is(err, driver.ErrTooLarge) {
		t.Errorf("%d bytes: %v", m.Size(), err)
	}
}

func TestReply_to_a_request_with_a_long_id_arrives(t *testing.T) {
	shop, catalog := open(t, "shop", quick), open(t, "catalog", quick)
	reserve.Handle(catalog, func(_ context.Context, i item) (item, error) { return i, nil })
	shop.Declare(reserve)
	start(t, shop, catalog)
	if _, err := reserve.Request(t.Context(), shop, item{"x", 1}, dovetail.ID(strings.Repeat("i", driver.MaxID))); err != nil {
		t.Error(err)
	}
}

// FuzzPrepare: what Prepare takes is read from an outbox's row and from a
// transport's attributes as it was written.
func FuzzPrepare(f *testing.F) {
	f.Add("id", "key", "text/plain", "correlation", "causation", "reply.x", "name", "value", int64(0), int64(0), int64(1500))
	f.Add("ä", "k\xff", "", "", "", "", "a:b", "c\nd", int64(1)<<60, int64(-1)<<60, int64(1)<<62)
	f.Add("x", ": ", " ", "", "", "", "transient", "true", int64(1790000000), int64(1800000000), int64(1))
	svc := dovetail.New("mail", tiny{}, quick)
	svc.Declare(welcome)
	f.Fuzz(func(t *testing.T, id, key, contentType, correlation, causation, replyTo, name, value string, at, due, timeout int64) {
		want := &driver.Message{
			Channel: welcome.Spec().Channel.Name, Type: welcome.Spec().Type(), ID: id, Key: key, ContentType: contentType,
			CorrelationID: correlation, CausationID: causation, ReplyTo: replyTo,
			Time: time.Unix(at, 123456789).UTC(), Due: time.Unix(due, 1).UTC(), Timeout: time.Duration(timeout),
			Headers: driver.Headers{{Name: name, Value: value}, {Name: "x", Value: key}},
		}
		if svc.Prepare(t.Context(), []*driver.Message{want}) != nil {
			return
		}
		if want.Timeout > 0 { // in ms, as the wire has it
			want.Timeout = max(time.Millisecond, want.Timeout.Truncate(time.Millisecond))
		}
		row, err := store.AppendHeaders(nil, want)
		if err != nil {
			t.Fatalf("%+v cannot be written: %v", want, err)
		}
		stored := &driver.Message{Channel: want.Channel, ID: want.ID, Key: want.Key}
		if err := store.ParseHeaders(stored, string(row)); err != nil {
			t.Fatalf("%+v is written as %q: %v", want, row, err)
		}
		sent := &driver.Message{Channel: want.Channel, Headers: slices.Clone(want.Headers)}
		for _, h := range driver.AppendAttributes(nil, "", want, true) {
			if known, err := driver.SetAttribute(sent, h.Name, h.Value); !known || err != nil {
				t.Fatalf("%+v is sent as %v: %v", want, h, err)
			}
		}
		for _, got := range []*driver.Message{stored, sent} {
			if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
				t.Fatalf("wrote %+v\nread  %+v", want, got)
			}
		}
	})
}

// tiny is a connection for what sends nothing.
type tiny struct{ driver.Conn }

func (tiny) Capabilities() driver.Capabilities { return driver.Capabilities{Name: "tiny"} }
