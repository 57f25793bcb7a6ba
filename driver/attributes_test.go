package driver_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dovetail-go/dovetail/driver"
)

func TestAttributes_survive_the_way_there_and_back(t *testing.T) {
	want := driver.Message{
		ID: "1", Source: "catalog", Type: "catalog.stock-ran-low.v1", ContentType: "application/json", Key: "85123A ✓",
		Time:          time.Date(2010, 12, 1, 8, 26, 0, 123456000, time.UTC),
		CorrelationID: "c", CausationID: "d", ReplyTo: "reply.shop.1", Timeout: 1500 * time.Millisecond,
		Due: time.Date(2010, 12, 2, 0, 0, 0, 0, time.UTC),
	}
	headers := driver.AppendAttributes(nil, "ce-", &want, true)
	if headers[0] != (driver.Header{Name: "ce-specversion", Value: "1.0"}) {
		t.Errorf("first header %v", headers[0])
	}
	var got driver.Message
	for _, h := range headers {
		if known, err := driver.SetAttribute(&got, strings.TrimPrefix(h.Name, "ce-"), h.Value); err != nil || !known {
			t.Errorf("%v: known %v, %v", h, known, err)
		}
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	for _, h := range driver.AppendAttributes(nil, "", &want, false) {
		if h.Name == "datacontenttype" {
			t.Error("content type where it was not wanted")
		}
	}
}

func TestSetAttribute_reports_what_it_cannot_read(t *testing.T) {
	for name, value := range map[string]string{"time": "yesterday", "due": "1", "timeout": "-1", "specversion": "0.3"} {
		m := driver.Message{Key: "k"}
		if known, err := driver.SetAttribute(&m, name, value); !known || err == nil {
			t.Errorf("%s=%s: known %v, %v", name, value, known, err)
		}
		if m.Key != "k" || !m.Time.IsZero() || !m.Due.IsZero() || m.Timeout != 0 {
			t.Errorf("%s=%s changed the message: %+v", name, value, m)
		}
	}
	if known, _ := driver.SetAttribute(&driver.Message{}, "dataschema", "x"); known {
		t.Error("an attribute that no field stands for is known")
	}
}

// FuzzEnvelope reads any value of any attribute without a crash, and what it has
// read it writes so that it reads the same.
func FuzzEnvelope(f *testing.F) {
	for _, name := range []string{"id", "time", "timeout", "due", "specversion", "partitionkey", "x"} {
		f.Add(name, "2010-12-01T08:26:00Z")
		f.Add(name, "1500")
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		var m driver.Message
		known, err := driver.SetAttribute(&m, name, value)
		if !known || err != nil {
			return
		}
		var again driver.Message
		for _, h := range driver.AppendAttributes(nil, "", &m, true) {
			if known, err := driver.SetAttribute(&again, h.Name, h.Value); !known || err != nil {
				t.Fatalf("%v: known %v, %v", h, known, err)
			}
		}
		if fmt.Sprintf("%+v", again) != fmt.Sprintf("%+v", m) {
			t.Fatalf("%s=%q: wrote %+v, read %+v", name, value, m, again)
		}
	})
}

// FuzzHeaders escapes any text to what a header may hold, and back.
func FuzzHeaders(f *testing.F) {
	f.Add("85123A ✓ \"100 %\"\r\n\x00")
	f.Add("%zz%4")
	f.Fuzz(func(t *testing.T, s string) {
		escaped := driver.EscapeValue(s)
		for i := range len(escaped) {
			if c := escaped[i]; c <= ' ' || c >= 0x7f || c == '"' {
				t.Fatalf("%q escaped to %q", s, escaped)
			}
		}
		if got := driver.UnescapeValue(escaped); got != s {
			t.Fatalf("%q became %q", s, got)
		}
		if got := driver.UnescapeValue(s); utf8.ValidString(s) && strings.IndexByte(s, '%') < 0 && got != s {
			t.Fatalf("%q without escapes became %q", s, got)
		}
		var h driver.Headers
		h = h.With("A", s).With("a", s+"2")
		if len(h) != 1 || h.Get("A") != s+"2" || len(h.Without("a")) != 0 {
			t.Fatalf("headers %v", h)
		}
	})
}

func TestValidName_takes_what_every_broker_takes(t *testing.T) {
	for _, good := range []string{"a", "ordering.order-placed", "x_1.y", strings.Repeat("a", 200)} {
		if err := driver.ValidName(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", ".", "a.", ".a", "a..b", "A", "a b", "ä", "a/b", "a*", "-a", strings.Repeat("a", 201)} {
		if driver.ValidName(bad) == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func ExampleAppendAttributes() {
	m := driver.Message{ID: "1", Source: "catalog", Type: "catalog.stock-ran-low.v1", Key: "85123A"}
	for _, h := range driver.AppendAttributes(nil, "ce-", &m, true) {
		fmt.Println(h.Name+":", h.Value)
	}
	// Output:
	// ce-specversion: 1.0
	// ce-id: 1
	// ce-source: catalog
	// ce-type: catalog.stock-ran-low.v1
	// ce-partitionkey: 85123A
}
