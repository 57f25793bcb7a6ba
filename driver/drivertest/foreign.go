package drivertest

import (
	"errors"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

var foreignTests = map[string]test{
	"Foreign_header_bytes_come_as_text":        {run: testForeignHeaders, gap: needsInject},
	"Foreign_key_bytes_come_as_text":           {run: testForeignKeys, gap: needsInjectKeyed},
	"Text_survives_in_every_attribute":         {run: testTextAttributes},
	"Text_survives_in_headers":                 {run: testTextHeaders},
	"Text_at_its_bounds_survives":              {run: testTextBounds},
	"Text_of_a_key_decides_about_the_key_only": {run: testTextKeys},
}

func needsInjectKeyed(c driver.Capabilities, h Harness) string {
	if h.InjectKeyed == nil {
		return noHook + "InjectKeyed"
	}
	return ""
}

// foreignBytes are what programs put into keys and headers that know nothing of
// text.
var foreignBytes = map[string]string{
	"plain":         "plain",
	"text":          "ключ ✓",
	"a number":      "\x00\x00\x00\x00\x00\x00\x00\x2a",
	"no UTF-8":      "\xff\xfe\xfd",
	"a UUID":        "\x9f\x1c\xe3\x00\x7b\x4d\x41\x1a\x8e\x0d\x13\x37\xc0\xff\xee\x01",
	"registry":      "\x00\x00\x00\x01\x07\x02abc",
	"a stack trace": "java.lang.IllegalStateException: no\n\tat Shop.sell(Shop.java:42)\r\n",
	"NUL":           "\x00",
	"half a rune":   "a\xc3",
	"our prefix":    "base64:AAA=",
}

func testForeignHeaders(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	r := e.receiver(c, s)
	for what, value := range foreignBytes {
		ctx, cancel := e.within()
		err := e.h.Inject(ctx, ch.Name, driver.Headers{{Name: "x-foreign", Value: value}}, []byte(what))
		cancel()
		if errors.Is(err, driver.ErrUnsupported) {
			e.gap("a header with " + what + " cannot be put in: " + err.Error())
			continue
		}
		if err != nil {
			e.Fatalf("inject a header with %s: %v", what, err)
		}
		d := e.one(r)
		if d.Fault != nil || string(d.Message.Body) != what {
			e.Errorf("a message whose header is %s came with body %q and fault %v", what, d.Message.Body, d.Fault)
		}
		if got, want := d.Message.Headers.Get("x-foreign"), driver.ForeignText([]byte(value)); got != want {
			e.Errorf("a header with %s came as %q, want %q", what, got, want)
		}
		e.settle(r, driver.Ack, d)
	}
	e.nothing(r, "all came")
}

func testForeignKeys(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	r := e.receiver(c, s)
	for what, key := range foreignBytes {
		ctx, cancel := e.within()
		err := e.h.InjectKeyed(ctx, ch.Name, []byte(key), nil, []byte(what))
		cancel()
		if err != nil {
			e.Fatalf("inject a key with %s: %v", what, err)
		}
		d := e.one(r)
		if d.Fault != nil || string(d.Message.Body) != what {
			e.Errorf("a message whose key is %s came with body %q and fault %v", what, d.Message.Body, d.Fault)
		}
		if want := driver.ForeignText([]byte(key)); d.Message.Key != want {
			e.Errorf("a key with %s came as %q, want %q", what, d.Message.Key, want)
		}
		e.settle(r, driver.Ack, d)
	}
	e.nothing(r, "all came")
}

// texts are what driver.ValidText takes and some engine could not.
var texts = []string{"tab\tand \x01 bell \a escape \x1b[0m \x7f", " spaces around ", "\u00a0\u2028\u2029\u202e\ufeff\ufffd", "🦉é ́", "%41%zz%", "base64:AAA=", "base64:!", "\"quoted\", 'so'",
	"a;b,c=d", "\\u0041\\n", "{}[]<>&", "null"}

func testTextAttributes(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	r := e.receiver(c, s)
	for i, text := range texts {
		if err := driver.ValidText(text); err != nil {
			e.Fatal(err)
		}
		want := &driver.Message{Channel: ch.Name, ID: "id " + text, Source: "source " + text, Type: "type " + text, Key: "key " + text,
			CorrelationID: "correlation " + text, CausationID: "causation " + text, ReplyTo: "reply " + text,
			Time: time.Date(2026, 1, 1, 0, 0, i, 0, time.UTC), Body: []byte(text)}
		e.send(c, want)
		d := e.one(r)
		e.sameMessage(d, want)
		e.settle(r, driver.Ack, d)
	}
}

func testTextHeaders(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	m := e.message(ch, "k", 0)
	for _, text := range texts {
		m.Headers = append(m.Headers, driver.Header{Name: "x-text", Value: text})
	}
	e.send(c, m)
	r := e.receiver(c, s)
	d := e.one(r)
	e.sameMessage(d, m)
	e.settle(r, driver.Ack, d)
}

func testTextBounds(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	r := e.receiver(c, s)
	for i, letter := range []string{"x", "é"} {
		long := func(n int) string { return strings.Repeat(letter, n/len(letter)) }
		want := &driver.Message{Channel: ch.Name, ID: long(driver.MaxID), Source: long(driver.MaxSource), Type: long(driver.MaxType), Key: long(driver.MaxKey),
			CorrelationID: long(driver.MaxID), CausationID: long(driver.MaxID),
			Headers: driver.Headers{{Name: "x-long", Value: long(8000)}}, Body: []byte{byte(i)}}
		e.send(c, want)
		d := e.one(r)
		e.sameMessage(d, want)
		e.settle(r, driver.Ack, d)
	}
}

// testTextKeys sends keys that differ in what some engine leaves out.
func testTextKeys(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	r := e.receiver(c, s)
	keys := map[string]bool{}
	for i, key := range []string{"k", " k", "k ", "K", "k\t", "ḱ", "k%20", "base64:aw=="} {
		m := e.message(ch, "", i)
		m.ID, m.Key = "key "+key, key
		e.send(c, m)
		keys[key] = true
	}
	for range len(keys) {
		d := e.one(r)
		if !keys[d.Message.Key] || d.Message.ID != "key "+d.Message.Key {
			e.Errorf("%q came with key %q", d.Message.ID, d.Message.Key)
		}
		e.settle(r, driver.Ack, d)
	}
}
