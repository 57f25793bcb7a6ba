package natsbus

import (
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
)

func TestAttributeText_decodes_what_can_have_been_encoded(t *testing.T) {
	for raw, want := range map[string]string{
		"plain":                "plain",
		"Gr%C3%BC%C3%9Fe":      "Grüße",
		"100%25":               "100%",
		"100%":                 "100%",             // no escape: sdk-go sent it as it is
		"100%2":                "100%2",            // likewise
		"50%41 off":            "50%41 off",        // a space would have been encoded
		"Grüße %41":            "Grüße %41",        // so would these
		"%00":                  "base64:AA==",      // no text
		"\xff\xfe":             "base64:" + "//4=", // no text either
		`a "quoted" %41 value`: `a "quoted" %41 value`,
	} {
		if got := attributeText(raw); got != want {
			t.Errorf("%q is read as %q, want %q", raw, got, want)
		}
	}
}

func TestAttributeText_undoes_EscapeValue(t *testing.T) {
	for _, v := range []string{"100%41", "a b", `"`, "ü%zz", "%", "%25", "\x01\x7f", ""} {
		if got := attributeText(driver.EscapeValue(v)); got != v {
			t.Errorf("%q comes back as %q", v, got)
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
