package drivertest

import (
	"errors"
	"net/url"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

// strangersTests are about what others wrote: into URLs, and into messages.
var strangersTests = map[string]test{
	"A_URL_is_read_whole_or_refused":           {run: testURLWhole, gap: needsURL},
	"Attributes_of_a_stranger_hold_up_nothing": {run: testStrangersAttributes, gap: needsInject},
}

// testURLWhole adds to a URL what cannot be read: it is refused, and the error
// has none of the values in it.
func testURLWhole(e *env) {
	const secret = "sesame17"
	join := "?"
	if strings.Contains(e.h.URL, "?") {
		join = "&"
	}
	for what, add := range map[string]string{
		"an unknown parameter":            "no-such-parameter=" + secret,
		"a semicolon":                     "a=" + secret + ";x=1",
		"a name without a value":          secret,
		"a parameter twice":               "a=" + secret + "&a=" + secret,
		"an escape that is none":          "a=" + secret + "%zz",
		"a fragment":                      "a=1#" + secret,
		"NUL":                             "a=" + secret + "%00",
		"an unknown parameter of secrets": "no-such-token=" + url.QueryEscape(secret+"/&=@"),
	} {
		ctx, cancel := e.within()
		c, err := driver.Open(ctx, e.h.URL+join+add)
		if err == nil {
			e.Errorf("a URL with %s was opened", what)
			if err := c.Close(ctx); err != nil {
				e.Errorf("close: %v", err)
			}
		} else if strings.Contains(err.Error(), secret) {
			e.Errorf("a URL with %s is refused by an error with the value in it: %v", what, err)
		}
		cancel()
	}
}

// testStrangersAttributes puts in more messages than a window has room for whose
// attributes make no sense, under the names of every binding: each is delivered,
// with a fault where it cannot be read, and so is what comes behind them.
func testStrangersAttributes(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	s.Window = 4
	r := e.receiver(c, s)
	waiting := map[string]bool{}
	for _, a := range []driver.Header{
		{Name: "due", Value: "9999-12-31T23:59:59Z"}, {Name: "due", Value: "tomorrow"}, {Name: "time", Value: "yesterday"}, {Name: "time", Value: "-1"},
		{Name: "timeout", Value: "-1"}, {Name: "timeout", Value: "99999999999999999999"}, {Name: "specversion", Value: "9"}, {Name: "specversion", Value: ""},
		{Name: "id", Value: strings.Repeat("x", 4096)}, {Name: "id", Value: "%00%0d%0a%ff"}, {Name: "type", Value: "\x1b[2J\x7f"}, {Name: "replyto", Value: "dead.bank"},
		{Name: "partitionkey", Value: strings.Repeat("k", 4096)}, {Name: "datacontenttype", Value: "application/cloudevents+json"},
	} {
		var headers driver.Headers
		for _, prefix := range []string{"ce-", "ce_", "cloudEvents_"} {
			headers = append(headers, driver.Header{Name: prefix + a.Name, Value: a.Value})
		}
		body := a.Name + "=" + a.Value
		ctx, cancel := e.within()
		err := e.h.Inject(ctx, ch.Name, headers, []byte(body))
		cancel()
		switch {
		case errors.Is(err, driver.ErrUnsupported):
			e.gap("attribute " + a.Name + " cannot be put in: " + err.Error())
		case err != nil:
			e.Fatalf("inject attribute %s: %v", a.Name, err)
		default:
			waiting[body] = true
		}
	}
	last := e.message(ch, "", 0)
	e.send(c, last)
	waiting[string(last.Body)] = true
	for len(waiting) > 0 {
		d := e.one(r)
		body := string(d.Message.Body)
		if !waiting[body] {
			e.Fatalf("%.100q came, which was not awaited", body)
		}
		delete(waiting, body)
		if driver.Foreign(d.Message) != d.Message {
			e.Errorf("%.100q came with an attribute that is no text", body)
		}
		outcome := driver.Ack
		if d.Fault != nil {
			outcome = driver.Reject
		}
		e.settle(r, outcome, d)
	}
	e.nothing(r, "all came")
}
