package drivertest

import (
	"errors"
	"sort"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

var sizeTests = map[string]test{
	"Fits_tells_what_Send_takes":          {run: testFits, gap: needsMaxBytes},
	"Send_carries_the_largest_attributes": {run: testLargest},
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

// testLargest sends what the core takes at most: attributes as long as they may
// be, of which every character is escaped somewhere, and the longest name of a
// header, of every character that it may have.
func testLargest(e *env) {
	c := e.conn()
	ch, s := e.queue(c)
	long := func(most int) string { return strings.Repeat("€%\" ", most/6) }
	var name []byte
	for c := byte('!'); c <= '~'; c++ {
		if c != ':' {
			name = append(name, c)
		}
	}
	most := strings.Repeat(string(name), 3)[:255]
	want := e.message(ch, long(driver.MaxKey)+".", 0)
	want.ID, want.CorrelationID, want.CausationID = long(driver.MaxID)+".", long(driver.MaxID)+"c", long(driver.MaxID)+"d"
	want.Source, want.Type = long(driver.MaxSource)+".", long(driver.MaxType)+"."
	want.Headers = driver.Headers{{Name: string(name), Value: "each"}, {Name: most, Value: "long"}}
	e.send(c, want)
	r := e.receiver(c, s)
	d := e.one(r)
	e.sameMessage(d, want)
	e.settle(r, driver.Ack, d)
}
