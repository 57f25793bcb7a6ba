package drivertest_test

import (
	"context"

	"github.com/dovetail-go/dovetail/driver"
)

const strangersAttributes = "Attributes_of_a_stranger_hold_up_nothing"

var strangersMutants = map[string]mutant{
	"settles what it cannot read": {by: strangersAttributes, receive: func(r driver.Receiver, ctx context.Context, max int) ([]*driver.Delivery, error) {
		ds, err := r.Receive(ctx, max)
		var kept []*driver.Delivery
		for _, d := range ds {
			if _, ok := d.Message.Headers.Lookup("ce-time"); ok {
				_ = r.Settle(ctx, []driver.Settlement{{Delivery: d}})
				continue
			}
			kept = append(kept, d)
		}
		return kept, err
	}},
	"takes bytes for an id": {by: strangersAttributes, deliver: func(_ *linkReceiver, d *driver.Delivery) {
		if id, ok := d.Message.Headers.Lookup("ce-id"); ok {
			d.Message.ID = driver.UnescapeValue(id)
		}
	}},
}
