package drivertest_test

import (
	"context"

	"github.com/dovetail-go/dovetail/driver"
)

// settlesAside settles what is set aside, which makes room as well.
func settlesAside(outcome driver.Outcome) func(driver.Receiver, []*driver.Delivery) {
	return func(r driver.Receiver, aside []*driver.Delivery) {
		list := make([]driver.Settlement, len(aside))
		for i, d := range aside {
			list[i] = driver.Settlement{Delivery: d, Outcome: outcome}
		}
		_ = r.Settle(context.Background(), list)
	}
}

const widens = "Widener_raises_the_window_and_a_receiver_opened_anew_has_all_in_order"

var widenMutants = map[string]mutant{
	"raises its window by nothing": {by: widens, widen: func(driver.Receiver, []*driver.Delivery) {}},
	"raises its window twice": {by: widens, widen: func(r driver.Receiver, aside []*driver.Delivery) {
		r.(driver.Widener).Widen(aside)
		r.(driver.Widener).Widen(aside)
	}},
	"acknowledges what was set aside":     {by: widens, widen: settlesAside(driver.Ack)},
	"delivers at once what was set aside": {by: widens, widen: settlesAside(driver.Retry)},
	"extends only what was not set aside": leasing(leases{end: driver.Retry, narrow: true}).caughtBy("Widener_keeps_the_leases_of_what_was_set_aside"),
}
