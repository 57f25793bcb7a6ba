package drivertest

import (
	"errors"
	"sort"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

var sizeTests = map[string]test{
	"Fits_tells_what_Send_takes": {run: testFits, gap: needsMaxBytes},
}

// fitSlack is how much too much a Fitter may count.
const fitSlack = 1024

// testFits sends the largest message that fits, with few headers and with many,
// which pass, and those a little larger, which are refused as too large. What
// the core takes from a user must not be refused by the engine.
func testFits(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	_, fitter := c.(driver.Fitter)
	r := e.receiver(c, s)
	for n, headers := range []driver.Headers{nil, {{Name: "many", Value: strings.Repeat(awkward, 100)}, {Name: "other", Value: strings.Repeat("x", 1000)}}} {
		m := e.message(ch, "k"+awkward, n)
		m.Headers = headers
		body := make([]byte, e.caps.MaxBytes+1)
		most := sort.Search(len(body), func(size int) bool {
			m.Body = body[:size]
			return driver.Fits(c, m) != nil
		}) - 1
		if most < e.caps.MaxBytes/2 {
			e.Fatalf("a body of %d bytes fits at most, and MaxBytes is %d", most, e.caps.MaxBytes)
		}
		if m.Body = body[:most+1]; !errors.Is(driver.Fits(c, m), driver.ErrTooLarge) {
			e.Errorf("%v does not wrap driver.ErrTooLarge", driver.Fits(c, m))
		}
		over := 1
		if fitter {
			over = min(fitSlack, e.caps.MaxBytes+1-most)
		}
		m.Body = body[:most]
		large := m.Clone()
		large.Body = append([]byte(nil), body[:most+over]...)
		e.send(c, m)
		ctx, cancel := e.within()
		err := c.Send(ctx, []*driver.Message{large})
		cancel()
		e.wantKind(c, err, driver.TooLarge, "a message that does not fit")
		d := e.one(r)
		e.sameMessage(d, m)
		e.settle(r, driver.Ack, d)
	}
}
