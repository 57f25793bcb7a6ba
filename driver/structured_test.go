package driver_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

const structured = "application/cloudevents+json; charset=utf-8"

func TestDecodeStructured_reads_attributes_extensions_and_data(t *testing.T) {
	for body, want := range map[string]string{
		`{"specversion":"1.0","id":"1","source":"/shop","type":"a.v1","data":{"n": 1}}`:                                   `application/json {"n": 1}`,
		`{"specversion":"1.0","id":"1","source":"/shop","type":"a.v1","data":"x","datacontenttype":"application/json"}`:   `application/json "x"`,
		`{"specversion":"1.0","id":"1","source":"/shop","type":"a.v1","data":"<a/>","datacontenttype":"application/xml"}`: `application/xml <a/>`,
		`{"specversion":"1.0","id":"1","source":"/shop","type":"a.v1","data_base64":"aGk=","datacontenttype":"text/x"}`:   `text/x hi`,
		`{"specversion":"1.0","id":"1","source":"/shop","type":"a.v1","data":null,"subject":null}`:                        ` `,
	} {
		m := &driver.Message{Channel: "c", Key: "k", ContentType: structured, Body: []byte(body), Headers: driver.Headers{{Name: "h", Value: "v"}}}
		e, err := driver.DecodeStructured(m)
		if err != nil {
			t.Errorf("%s: %v", body, err)
			continue
		}
		if got := fmt.Sprintf("%s %s", e.ContentType, e.Body); got != want || e.ID != "1" || e.Source != "/shop" || e.Type != "a.v1" || e.Channel != "c" || e.Key != "k" || len(e.Headers) != 1 {
			t.Errorf("%s: %q of %+v", body, got, e)
		}
	}
	m := &driver.Message{ContentType: structured, Key: "k", Body: []byte(`{"specversion":"1.0","id":"1","source":"s","type":"t",
		"time":"2010-12-01T08:26:00Z","partitionkey":"own","sequence":42,"sampled":true,"causationid":"c"}`)}
	e, err := driver.DecodeStructured(m)
	if err != nil || e.Key != "own" || !e.Time.Equal(time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)) || e.CausationID != "c" ||
		e.Headers.Get("ce-sequence") != "42" || e.Headers.Get("ce-sampled") != "true" {
		t.Errorf("%+v, %v", e, err)
	}
	if m.Key != "k" || m.ID != "" {
		t.Error("the message that came was changed")
	}
}

func TestDecodeStructured_refuses_what_is_malformed(t *testing.T) {
	for _, body := range []string{
		``, `[]`, `null`, `{}`, `{"specversion":"1.0"}`, `{"id":"1","source":"s","type":"t"}`,
		`{"specversion":"0.3","id":"1","source":"s","type":"t"}`, `{"specversion":"1.0","id":"1","source":"s","type":"t","time":"now"}`,
		`{"specversion":"1.0","id":"1","source":"s","type":"t","data":1,"data_base64":"aGk="}`,
		`{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":"?"}`, `{"specversion":"1.0","id":"1","source":"s","type":"t","data_base64":1}`,
		`{"specversion":"1.0","id":"1\n","source":"s","type":"t"}`, `{"specversion":"1.0","id":{},"source":"s","type":"t"}`,
		`{"specversion":"1.0","id":"1","source":"s","type":"t","a b":"c"}`,
	} {
		if e, err := driver.DecodeStructured(&driver.Message{ContentType: structured, Body: []byte(body)}); err == nil {
			t.Errorf("%s is taken: %+v", body, e)
		}
	}
}

func TestStructured_goes_by_the_content_type(t *testing.T) {
	for ct, want := range map[string]bool{structured: true, "Application/CloudEvents+JSON": true, "application/json": false, "": false,
		"application/cloudevents-batch+json": false, "application/cloudevents+avro": false} {
		if driver.Structured(&driver.Message{ContentType: ct}) != want {
			t.Errorf("%q: %v", ct, !want)
		}
	}
}

// FuzzStructured decodes any body without a crash; what it takes has the
// attributes that an event must have, as text that every transport carries.
func FuzzStructured(f *testing.F) {
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"/shop","type":"a.v1","data":{"n":1},"x":true}`))
	f.Add([]byte(`{"specversion":"1.0","id":"1","source":"/shop","type":"a.v1","data_base64":"aGk="}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := driver.DecodeStructured(&driver.Message{ContentType: structured, Body: body})
		if err != nil {
			return
		}
		if e.ID == "" || e.Source == "" || e.Type == "" {
			t.Fatalf("%s became %+v", body, e)
		}
		values := []string{e.ID, e.Source, e.Type, e.ContentType, e.Key, e.CorrelationID, e.CausationID, e.ReplyTo}
		for _, h := range e.Headers {
			values = append(values, h.Name, h.Value)
		}
		for _, v := range values {
			if err := driver.ValidText(v); err != nil {
				t.Fatalf("%s became %+v: %v", body, e, err)
			}
		}
	})
}
