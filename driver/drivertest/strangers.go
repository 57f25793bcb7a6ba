package drivertest

import (
	"net/url"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

// strangersTests are about what others wrote: into URLs, and into messages.
var strangersTests = map[string]test{
	"A_URL_is_read_whole_or_refused": {run: testURLWhole, gap: needsURL},
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
