// Package ordering takes orders and cancellations, and has them carried out by
// the catalog and by payment.
package ordering

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/examples/eshop/catalog/catalogapi"
	"github.com/dovetail-go/dovetail/examples/eshop/mail/mailapi"
	"github.com/dovetail-go/dovetail/examples/eshop/ordering/orderingapi"
	"github.com/dovetail-go/dovetail/examples/eshop/payment/paymentapi"
	"github.com/dovetail-go/dovetail/examples/eshop/tables"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
)

// schema has no unique key on the order, on purpose: a second effect of one
// message would show in the balance, instead of being swallowed here.
const schema = `
CREATE TABLE IF NOT EXISTS orders (
	id       TEXT NOT NULL,
	customer TEXT NOT NULL,
	state    TEXT NOT NULL, -- completed, refused, cancelled
	total    BIGINT NOT NULL,
	code     TEXT NOT NULL, -- of a refusal
	reason   TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS customers (
	id          TEXT PRIMARY KEY,
	first_order TEXT NOT NULL
);`

// Effects lists what ordering has done, as (kind, subject, times, amount).
const Effects = `SELECT 'order ' || state, id, count(*), sum(total) FROM orders GROUP BY 1, 2`

type ordering struct {
	svc    *dovetail.Service
	record func(context.Context, decision) (orderingapi.Receipt, error)
}

// Register has svc be ordering, with its tables in db and its messages in box.
func Register(ctx context.Context, svc *dovetail.Service, db *sql.DB, box *outbox.Box[*sql.Tx]) error {
	if err := tables.Make(ctx, db, schema); err != nil {
		return fmt.Errorf("ordering: %w", err)
	}
	o := &ordering{svc: svc, record: inbox.Answer(box, record)}
	orderingapi.PlaceOrder.Handle(svc, o.place)
	orderingapi.CancelOrder.Handle(svc, o.cancel)
	svc.Declare(orderingapi.OrderPlaced, catalogapi.ReserveStock, catalogapi.ReleaseStock, catalogapi.ReturnStock,
		paymentapi.Charge, paymentapi.Refund, mailapi.SendWelcome)
	return nil
}

// A decision is what is to become of an order.
type decision struct {
	order    orderingapi.Order
	state    orderingapi.State
	refusal  dovetail.Refusal // why, if refused
	reserved bool             // goods are set aside and must be released if refused
}

// place asks catalog and payment, outside of any transaction, and records what
// they say in one. The requests' ids follow from the order: if this process is
// killed between two of them, the order comes again, they are asked again, and
// give the answers that they gave before.
func (o *ordering) place(ctx context.Context, order orderingapi.Order) (orderingapi.Receipt, error) {
	d := decision{order: order, state: orderingapi.Completed}
	err := o.fulfil(ctx, &d)
	var refusal *dovetail.Refusal
	switch {
	case errors.As(err, &refusal):
		d.state, d.refusal = orderingapi.Refused, *refusal
	case err != nil:
		return orderingapi.Receipt{}, err // the order will come again
	}
	return o.record(ctx, d)
}

func (o *ordering) fulfil(ctx context.Context, d *decision) error {
	if err := check(d.order); err != nil {
		return err
	}
	_, err := catalogapi.ReserveStock.Request(ctx, o.svc, goods(d.order), dovetail.ID(d.order.ID+"/reserve"))
	if err != nil {
		return err
	}
	d.reserved = true
	_, err = paymentapi.Charge.Request(ctx, o.svc, bill(d.order), dovetail.ID(d.order.ID+"/charge"))
	return err
}

func (o *ordering) cancel(ctx context.Context, order orderingapi.Order) (orderingapi.Receipt, error) {
	d := decision{order: order, state: orderingapi.Cancelled}
	var refusal *dovetail.Refusal
	if errors.As(check(order), &refusal) {
		d.state, d.refusal = orderingapi.Refused, *refusal
	}
	return o.record(ctx, d)
}

// check refuses orders that cannot be meant.
func check(order orderingapi.Order) error {
	if len(order.Lines) == 0 {
		return dovetail.Refuse(orderingapi.NothingOrdered, "order %s has no lines", order.ID)
	}
	for _, l := range order.Lines {
		if l.Quantity <= 0 {
			return dovetail.Refuse(orderingapi.BadQuantity, "order %s wants %d of %s", order.ID, l.Quantity, l.SKU)
		}
	}
	return nil
}

// record runs in one transaction: the order's row, and the messages that tell
// the others what follows from it, are there together or not at all.
func record(ctx context.Context, tx *sql.Tx, out dovetail.Sender, d decision) (orderingapi.Receipt, error) {
	r := orderingapi.Receipt{Order: d.order.ID, State: d.state, Total: d.order.Total(), Code: d.refusal.Code, Reason: d.refusal.Message}
	_, err := tx.ExecContext(ctx, `INSERT INTO orders (id, customer, state, total, code, reason) VALUES ($1, $2, $3, $4, $5, $6)`,
		r.Order, d.order.Customer, r.State, r.Total, r.Code, r.Reason)
	if err != nil {
		return r, err
	}
	switch d.state {
	case orderingapi.Completed:
		err = complete(ctx, tx, out, d.order)
	case orderingapi.Cancelled:
		err = errors.Join(
			catalogapi.ReturnStock.Send(ctx, out, goods(d.order)),
			paymentapi.Refund.Send(ctx, out, bill(d.order)))
	case orderingapi.Refused:
		if d.reserved { // the compensation
			err = catalogapi.ReleaseStock.Send(ctx, out, catalogapi.Goods{Order: d.order.ID})
		}
	}
	return r, err
}

// complete announces an order, and greets its customer if it is the first.
func complete(ctx context.Context, tx *sql.Tx, out dovetail.Sender, order orderingapi.Order) error {
	if err := orderingapi.OrderPlaced.Publish(ctx, out, order); err != nil || order.Customer == "" {
		return err
	}
	res, err := tx.ExecContext(ctx, `INSERT INTO customers (id, first_order) VALUES ($1, $2) ON CONFLICT DO NOTHING`, order.Customer, order.ID)
	if err != nil {
		return err
	}
	if n, err := res.RowsAffected(); err != nil || n == 0 {
		return err
	}
	return mailapi.SendWelcome.Send(ctx, out, mailapi.Welcome{Customer: order.Customer, Order: order.ID})
}

// goods are an order's things, each SKU once.
func goods(order orderingapi.Order) catalogapi.Goods {
	g := catalogapi.Goods{Order: order.ID}
	place := make(map[string]int, len(order.Lines))
	for _, l := range order.Lines {
		i, ok := place[l.SKU]
		if !ok {
			i = len(g.Items)
			place[l.SKU] = i
			g.Items = append(g.Items, catalogapi.Item{SKU: l.SKU})
		}
		g.Items[i].Units += l.Quantity
	}
	// In one order everywhere, so that on databases that lock rows two
	// reservations never wait for each other.
	slices.SortFunc(g.Items, func(a, b catalogapi.Item) int { return cmp.Compare(a.SKU, b.SKU) })
	return g
}

func bill(order orderingapi.Order) paymentapi.Bill {
	return paymentapi.Bill{Order: order.ID, Customer: order.Customer, Amount: order.Total()}
}
