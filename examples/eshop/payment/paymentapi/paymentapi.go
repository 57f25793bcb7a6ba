// Package paymentapi is what other services may know of payment: its
// contracts.
package paymentapi

import (
	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/examples/eshop/money"
)

// till is the channel of what moves money.
var till = dovetail.NewChannel("payment.till")

// The contracts of payment.
var (
	// Charge takes money, or is refused as NothingToPay or OverLimit.
	Charge = dovetail.NewCall[Bill, Bill]("payment.charge").On(till).Keyed(Bill.key)

	// Refund gives money back.
	Refund = dovetail.NewCommand[Bill]("payment.refund").On(till).Keyed(Bill.key)
)

// Codes of refusals.
const (
	NothingToPay = "nothing-to-pay" // the bill is not above zero
	OverLimit    = "over-limit"     // the bill is above Limit
)

// Limit is the most that is charged at once; more wants a person's decision.
const Limit money.Pence = 10_000_00

// A Bill is an amount to be paid, or to be paid back.
type Bill struct {
	Order    string      `json:"order"`
	Customer string      `json:"customer,omitempty"` // empty for a guest
	Amount   money.Pence `json:"amount"`
}

func (b Bill) key() string { return b.Order }
