package store_test

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

func TestAppendHeaders_refuses_what_cannot_be_read_again(t *testing.T) {
	far := time.Date(58878, 1, 1, 0, 0, 0, 0, time.UTC)
	for name, m := range map[string]driver.Message{
		"due":       {Due: far},
		"time":      {Time: time.Date(-1, 1, 1, 0, 0, 0, 0, time.UTC)},
		"timeout":   {Timeout: 400 * 24 * time.Hour},
		"attribute": {Type: "a\nb"},
		"header":    {Headers: driver.Headers{{Name: "a:b", Value: "c"}}},
	} {
		if text, err := store.AppendHeaders(nil, &m); err == nil {
			t.Errorf("%s: written as %q", name, text)
		}
	}
}

// A line that cannot be read costs nothing but itself.
func TestParseHeaders_reads_what_it_can(t *testing.T) {
	m := &driver.Message{ID: "1", Key: "k"}
	err := store.ParseHeaders(m, "type: a.v1\ndue: +58878-01-01T00:00:00Z\nid: evil\npartitionkey: evil\nno colon\nsource: s\n\nx: y\n")
	if err == nil || !strings.Contains(err.Error(), "due") {
		t.Errorf("error %v, want the first line that cannot be read", err)
	}
	want := &driver.Message{ID: "1", Key: "k", Type: "a.v1", Source: "s", Headers: driver.Headers{{Name: "x", Value: "y"}}}
	if !reflect.DeepEqual(m, want) {
		t.Errorf("read %+v, want %+v", m, want)
	}
}

// FuzzParseHeaders reads anything without a crash, and what it can read it writes
// so that it reads the same.
func FuzzParseHeaders(f *testing.F) {
	for _, text := range []string{"", "\n", "type: a\n\nb: c\n", "due: 2026-11-28T00:00:00Z\ntimeout: 5\ntransient: true\n\n", "x\n", "a: b\n\n\n\nc: d", "due: +58878-01-01T00:00:00Z\n"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		m := &driver.Message{ID: "1", Key: "k"}
		if store.ParseHeaders(m, text) != nil || m.ID != "1" || m.Key != "k" {
			return
		}
		again, err := store.AppendHeaders(nil, m)
		if err != nil {
			return // what nobody can write: CR, a name that is empty
		}
		var back = &driver.Message{ID: "1", Key: "k"}
		if err := store.ParseHeaders(back, string(again)); err != nil {
			t.Fatalf("%q, written as %q: %v", text, again, err)
		}
		if len(m.Headers)+len(back.Headers) == 0 {
			m.Headers, back.Headers = nil, nil
		}
		if m.Timeout > 0 {
			m.Timeout, back.Timeout = max(m.Timeout, time.Millisecond), max(back.Timeout, time.Millisecond)
		}
		if !reflect.DeepEqual(m, back) {
			t.Fatalf("%q:\n%+v\n%+v", text, m, back)
		}
	})
}

func TestLaneOf_is_short_text_and_tells_keys_apart(t *testing.T) {
	seen := map[string]string{}
	for _, key := range []string{"a", "A", "k", "h", strings.Repeat("a", 1024), strings.Repeat("a", 1025), strings.Repeat("a", 5000), strings.Repeat("a", 5001), "\xff", "\xfe", "a\x00", "a\x00b"} {
		name := store.LaneOf(&driver.Message{ID: "1", Source: "s", Key: key})
		if other, ok := seen[name]; ok {
			t.Errorf("keys %q and %q have one lane", key, other)
		}
		seen[name] = key
		if len(name) > 1025 || !utf8.ValidString(name) || strings.Contains(name, "\x00") {
			t.Errorf("key %.20q…: lane %.20q… of %d bytes", key, name, len(name))
		}
	}
	if a, b := store.LaneOf(&driver.Message{Source: "s", ID: strings.Repeat("x", 9000)}), store.LaneOf(&driver.Message{Source: "s", ID: strings.Repeat("x", 9001)}); a == b || len(a) > 1025 {
		t.Errorf("lanes %s and %s", a, b)
	}
}

func TestErrorText_is_text_that_every_store_keeps(t *testing.T) {
	for _, text := range []string{"plain", "a\x00b", "\xff\xfe", strings.Repeat("ä", 5000), "a" + strings.Repeat("ä", 5000), strings.Repeat("\xff", 5000), ""} {
		got := store.ErrorText(errors.New(text))
		if len(got) > 2010 || !utf8.ValidString(got) || strings.Contains(got, "\x00") {
			t.Errorf("%.20q: %.20q of %d bytes", text, got, len(got))
		}
	}
}
