package shop

import (
	"sync"

	"github.com/dovetail-go/dovetail/examples/eshop/catalog"
	"github.com/dovetail-go/dovetail/examples/eshop/invoice"
	"github.com/dovetail-go/dovetail/examples/eshop/money"
	"github.com/dovetail-go/dovetail/examples/eshop/ordering/orderingapi"
	"github.com/dovetail-go/dovetail/examples/eshop/payment/paymentapi"
)

// An effect is something that a service did about an order or a customer.
type effect struct {
	kind    string // as in the Effects of the services
	subject string // id of the order, or of the customer
}

// A tally says how often, and how much in all: pence or units.
type tally struct{ times, amount int64 }

// Expectations are what must have happened, from the invoices as they were read and
// from what became of them. They are safe for concurrent use.
type expectations struct {
	mu      sync.Mutex
	effects map[effect]tally
	moved   map[string]int64 // on the shelf, by SKU, against the opening
	sold    map[string]int64 // by SKU
	takings money.Pence

	charged, refunded money.Pence
	units, returned   int64

	placed, completed, refused, cancelled, notCancelled, unanswered int
	lines                                                           LineCounts
	codes                                                           map[string]int
}

func newExpectations() *expectations {
	return &expectations{
		effects: map[effect]tally{}, moved: map[string]int64{}, sold: map[string]int64{}, codes: map[string]int{},
	}
}

// want says that kind must have happened once.
func (l *expectations) want(kind, subject string, amount int64) {
	l.effects[effect{kind, subject}] = tally{1, amount}
}

// order is what is sent for an invoice. What a cancellation takes back is
// counted from the customer's side, above zero.
func order(inv invoice.Invoice) orderingapi.Order {
	o := orderingapi.Order{ID: inv.Number, Customer: inv.Customer, Lines: make([]orderingapi.Line, len(inv.Lines))}
	sign := int64(1)
	if inv.Cancels() {
		sign = -1
	}
	for i, l := range inv.Lines {
		o.Lines[i] = orderingapi.Line{SKU: l.SKU, Quantity: sign * l.Quantity, Price: l.Price}
	}
	return o
}

// settle writes down what became of an invoice.
func (l *expectations) settle(inv invoice.Invoice, r orderingapi.Receipt) {
	o := order(inv)
	total, units := o.Total(), o.Units()
	l.mu.Lock()
	defer l.mu.Unlock()
	if !inv.Cancels() {
		l.placed++
	}
	l.want("order "+string(r.State), o.ID, int64(total))
	switch r.State {
	case orderingapi.Completed:
		l.completed++
		l.lines.Completed += len(o.Lines)
		l.want("reserve", o.ID, units)
		l.want("charge", o.ID, int64(total))
		l.want("sale", o.ID, units)
		l.want("confirmation", o.ID, 0)
		if o.Customer != "" {
			l.want("welcome", o.Customer, 0)
		}
		for _, p := range o.Lines {
			l.moved[p.SKU] -= p.Quantity
			l.sold[p.SKU] += p.Quantity
		}
		l.units += units
		l.charged += total
	case orderingapi.Cancelled:
		l.cancelled++
		l.lines.Cancelled += len(o.Lines)
		l.want("return", o.ID, units)
		l.want("refund", o.ID, int64(total))
		for _, p := range o.Lines {
			l.moved[p.SKU] += p.Quantity
		}
		l.returned += units
		l.refunded += total
	default:
		if inv.Cancels() {
			l.notCancelled++
		} else {
			l.refused++
		}
		l.lines.Refused += len(o.Lines)
		l.codes[r.Code]++
		if r.Code != paymentapi.NothingToPay && r.Code != paymentapi.OverLimit {
			break
		}
		// It had been reserved: the compensation must have put it back.
		l.want("reserve", o.ID, units)
		l.want("release", o.ID, units)
		for _, p := range o.Lines {
			l.moved[p.SKU] += 0
		}
	}
	l.takings = l.charged - l.refunded
}

// giveUp writes down that an invoice got no answer.
func (l *expectations) giveUp(inv invoice.Invoice) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.unanswered++
	l.lines.Unanswered += len(inv.Lines)
	if !inv.Cancels() {
		l.placed++
	}
	l.effects[effect{"answer", inv.Number}] = tally{1, 0}
}

// stock is how many units must be on so many shelves.
func (l *expectations) stock(shelves int) int64 {
	return int64(shelves)*catalog.Opening - l.units + l.returned
}
