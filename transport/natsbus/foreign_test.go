package natsbus

import (
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
)

func TestAttributeText_is_decoded_once_as_the_binding_says(t *testing.T) {
	for raw, want := range map[string]string{
		"plain":                "plain",
		"Gr%C3%BC%C3%9Fe":      "Grüße",
		"gr%c3%bc%c3%9fe":      "grüße",
		"100%25":               "100%",
		"100%2541":             "100%41", // once
		"100%41":               "100A",   // whoever does not encode, as sdk-go, sends another id
		"100%":                 "100%",   // no escape
		"100%2":                "100%2",
		"50%41 off":            "50A off", // older versions of the binding let spaces be
		"Grüße %41":            "Grüße A",
		"%00":                  "base64:AA==",      // no text
		"\xff\xfe":             "base64:" + "//4=", // no text either
		`a "quoted" %41 value`: `a "quoted" A value`,
		`"quoted %E2%82%AC"`:   "quoted €",
		`"a \"b\" \\ c"`:       `a "b" \ c`,
		`"a" and "b"`:          `"a" and "b"`, // no quoted string
		`"a\"`:                 `"a\"`,
		`"`:                    `"`,
	} {
		if got, err := attributeText(raw); got != want || err != nil {
			t.Errorf("%q is read as %q, want %q, error %v", raw, got, want, err)
		}
	}
	for _, raw := range []string{"%C0%A0", "%FF", "a%80b"} {
		if got, err := attributeText(raw); err == nil {
			t.Errorf("%q, which is no UTF-8, is read as %q", raw, got)
		}
		m := &driver.Message{}
		if err := decode(m, "c", nats.Header{"ce-id": {raw}}, nil); err == nil || m.Headers.Get("ce-id") != raw {
			t.Errorf("an id of %q: %+v, fault %v; want a fault, and the header as it came", raw, m, err)
		}
	}
}

func TestAttributeText_undoes_EscapeValue(t *testing.T) {
	for _, v := range []string{"100%41", "a b", `"`, `"a"`, "ü%zz", "%", "%25", "\x01\x7f", ""} {
		if got, err := attributeText(driver.EscapeValue(v)); got != v && driver.ValidText(v) == nil || err != nil {
			t.Errorf("%q comes back as %q, %v", v, got, err)
		}
	}
}

func TestDecode_of_a_message_without_attributes(t *testing.T) {
	const structured = "application/cloudevents+json; charset=utf-8"
	m := &driver.Message{}
	if err := decode(m, "c", nats.Header{"content-type": {structured}}, []byte("{}")); err != nil || m.ContentType != structured || m.Type != "" {
		t.Errorf("structured mode: %+v, %v; want the content type and no type", m, err)
	}
	m = &driver.Message{}
	if err := decode(m, "c", nil, []byte("whole")); err != nil || string(m.Body) != "whole" || m.Type != "" || m.ContentType != "" || len(m.Headers) > 0 {
		t.Errorf("without headers: %+v, %v", m, err)
	}
	m = &driver.Message{}
	if err := decode(m, "c", nats.Header{"ce-datacontenttype": {"text/y"}, "Content-Type": {"text/x"}}, nil); err != nil || m.ContentType != "text/y" || m.Headers.Get("content-type") != "text/x" {
		t.Errorf("a header became the content type of a message that has one: %+v, %v", m, err)
	}
	sent := &driver.Message{ID: "1", Headers: driver.Headers{{Name: "Content-Type", Value: "text/x"}}}
	if got, err := over(t, sent); err != nil || got.ContentType != "" || got.Headers.Get("content-type") != "text/x" {
		t.Errorf("a header of ours became the content type: %+v, %v", got, err)
	}
}

func TestIdentity_tells_messages_apart_that_share_an_id(t *testing.T) {
	seen := map[string]driver.Message{}
	for _, m := range []driver.Message{
		{Source: "s", ID: "1", Type: "placed", Channel: "orders"},
		{Source: "s", ID: "1", Type: "paid", Channel: "orders"},
		{Source: "s", ID: "1", Type: "placed", Channel: "other"},
		{Source: "s1", ID: "", Type: "placed", Channel: "orders"},
		{Source: "s", ID: "1p", Type: "laced", Channel: "orders"},
		{Source: "s/1", ID: "1", Type: "placed", Channel: "orders"},
	} {
		id := identity(&m)
		if (m.ID == "") != (id == "") {
			t.Errorf("%+v has the identity %q", m, id)
		}
		if other, met := seen[id]; met {
			t.Errorf("%+v and %+v have one identity", m, other)
		}
		seen[id] = m
	}
}
