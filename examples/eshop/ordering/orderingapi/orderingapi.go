// Package orderingapi is what other services may know of ordering: its
// contracts.
package orderingapi

import (
	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/examples/eshop/money"
)

// orders is the channel of all that concerns orders. What concerns one customer
// is handled in order.
var orders = dovetail.NewChannel("ordering.orders")

// The contracts of ordering.
var (
	// PlaceOrder is answered once the order is completed or refused.
	PlaceOrder = dovetail.NewCall[Order, Receipt]("ordering.place-order").On(orders).Keyed(Order.key)

	// CancelOrder takes goods back that were bought earlier and returns the
	// money. The order's id is that of the cancellation.
	CancelOrder = dovetail.NewCall[Order, Receipt]("ordering.cancel-order").On(orders).Keyed(Order.key)

	// OrderPlaced says that an order was completed: the goods are reserved and
	// paid for.
	OrderPlaced = dovetail.NewEvent[Order]("ordering.order-placed").Keyed(Order.key)
)

// An Order is what a customer wants, or gives back.
type Order struct {
	ID       string `json:"id"`
	Customer string `json:"customer,omitempty"` // empty for a guest
	Lines    []Line `json:"lines"`
}

// A Line is one position of an order. Quantities are counted from the
// customer's side: what is given back is positive as well.
type Line struct {
	SKU      string      `json:"sku"`
	Quantity int64       `json:"quantity"`
	Price    money.Pence `json:"price"` // of one
}

// Total is what the order costs.
func (o Order) Total() (sum money.Pence) {
	for _, l := range o.Lines {
		sum += money.Pence(l.Quantity) * l.Price
	}
	return sum
}

// Units is how many things the order is about.
func (o Order) Units() (n int64) {
	for _, l := range o.Lines {
		n += l.Quantity
	}
	return n
}

// key keeps the orders of one customer in order; guests have nothing to do with
// each other.
func (o Order) key() string {
	if o.Customer == "" {
		return "guest/" + o.ID
	}
	return o.Customer
}

// A State is what became of an order.
type State string

// The states of an order.
const (
	Completed State = "completed" // reserved, paid, and announced
	Refused   State = "refused"   // nothing was taken, neither goods nor money
	Cancelled State = "cancelled" // goods and money went back
)

// A Receipt tells what became of an order.
type Receipt struct {
	Order  string      `json:"order"`
	State  State       `json:"state"`
	Total  money.Pence `json:"total"`
	Code   string      `json:"code,omitempty"`   // of a refusal: "out-of-stock"
	Reason string      `json:"reason,omitempty"` // of a refusal, for people
}

// Codes of refusals that are ordering's own. Those of the catalog and of
// payment are passed on.
const (
	NothingOrdered = "nothing-ordered"
	BadQuantity    = "bad-quantity"
)
