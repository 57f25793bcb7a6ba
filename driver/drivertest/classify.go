package drivertest

import (
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

var classifyTests = map[string]test{
	"Provision_of_what_cannot_be_is_refused_for_good":     {run: testProvisionImpossible},
	"Provision_of_too_many_partitions_is_refused_at_once": {run: testTooManyPartitions, gap: needsOrder(driver.OrderOwner)},
	"Provision_of_long_names_works_or_is_refused":         {run: testLongNames},
}

// forGood checks that an error is of a kind that nobody tries again.
func (e *env) forGood(c driver.Conn, err error, what string) {
	e.Helper()
	if err == nil {
		e.Errorf("%s: no error, want it refused", what)
		return
	}
	if k := c.Classify(err); k != driver.Conflict && k != driver.Unsupported {
		e.Errorf("%s: %v is %q, want %q or %q: it would be tried again for ever", what, err, k, driver.Conflict, driver.Unsupported)
	}
}

func testProvisionImpossible(e *env) {
	c := e.conn()
	ctx, cancel := e.within()
	defer cancel()
	ch, _ := e.queue(c)
	long := strings.Repeat("n", 201)
	for what, name := range map[string]string{"no name": "", "a name of 201 characters": long, "a name with a space": "has space"} {
		e.forGood(c, c.Provision(ctx, []driver.Channel{{Name: name}}, nil), "a channel with "+what)
		s := e.subscription(ch, name)
		e.forGood(c, c.Provision(ctx, nil, []driver.Subscription{s}), "a group with "+what)
	}
	ch.Kind = driver.PublishSubscribe
	e.forGood(c, c.Provision(ctx, []driver.Channel{ch}, nil), "a channel of another kind")
}

func testTooManyPartitions(e *env) {
	c := e.conn()
	ctx, cancel := e.within()
	defer cancel()
	negative := e.channel(driver.PointToPoint)
	negative.Partitions = -1
	e.forGood(c, c.Provision(ctx, []driver.Channel{negative}, nil), "a channel with -1 partitions")
	many := e.channel(driver.PointToPoint)
	many.Partitions = 5000
	e.forGood(c, c.Provision(ctx, []driver.Channel{many}, []driver.Subscription{e.subscription(many, "worker")}), "a channel with 5,000 partitions")
	if ctx.Err() != nil {
		e.Errorf("that took %v", e.h.Patience)
	}
}

// testLongNames tries names that are valid and together too long for some
// engine.
func testLongNames(e *env) {
	c := e.conn()
	ctx, cancel := e.within()
	defer cancel()
	ch := e.channel(driver.PublishSubscribe)
	ch.Name += "-" + strings.Repeat("c", 199-len(ch.Name))
	s := e.subscription(ch, strings.Repeat("g", 200))
	if err := c.Provision(ctx, []driver.Channel{ch}, []driver.Subscription{s}); err != nil {
		e.forGood(c, err, "a channel and a group with names of 200 characters")
		e.gap("names of 200 characters are refused: " + err.Error())
		return
	}
	r := e.receiver(c, s)
	e.send(c, e.message(ch, "k", 0))
	e.settle(r, driver.Ack, e.one(r))
}
