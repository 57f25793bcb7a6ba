package drivertest

import "github.com/dovetail-go/dovetail/driver"

var sharerTests = map[string]test{
	"Sharer_tells_of_others_that_receive_side_by_side": {run: testSharer},
}

// testSharer wants receivers of a group whose partitions have no owners to know of
// each other, for people to be warned, and those that own theirs not to warn.
func testSharer(e *env) {
	c := e.conn()
	_, s := e.queue(c)
	owners := e.caps.Order >= driver.OrderOwner
	r := e.receiver(c, s)
	first, ok := r.(driver.Sharer)
	if !ok {
		if e.caps.Order == driver.OrderInstance {
			e.Errorf("%T is no driver.Sharer: nobody could be warned of a second receiver, which ends the order of keys", r)
		}
		return
	}
	shared := func(who ...driver.Sharer) bool {
		for _, w := range who {
			ctx, cancel := e.within()
			is, err := w.Shared(ctx)
			cancel()
			if err != nil {
				e.Fatalf("shared: %v", err)
			}
			if is {
				return true
			}
		}
		return false
	}
	e.eventually("a receiver that is alone shares with nobody", func() bool { return !shared(first) })
	r2 := e.receiver(e.conn(), e.another(s))
	if owners {
		if shared(first, r2.(driver.Sharer)) {
			e.Errorf("a receiver of partitions that have owners shares them")
		}
		return
	}
	e.eventually("one of two receivers tells of the other", func() bool { return shared(first, r2.(driver.Sharer)) })
	e.closeReceiver(r2)
	e.eventually("the one that is left shares with nobody", func() bool { return !shared(first) })
}
