// Package payment takes money and gives it back.
package payment

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/examples/eshop/payment/paymentapi"
	"github.com/dovetail-go/dovetail/examples/eshop/tables"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
)

// schema has no unique key on the order, on purpose: a second effect of one
// message would show in the balance, instead of being swallowed here.
const schema = `
CREATE TABLE IF NOT EXISTS payments (
	kind     TEXT NOT NULL, -- charge, refund
	order_id TEXT NOT NULL,
	customer TEXT NOT NULL,
	amount   BIGINT NOT NULL
);`

// Effects lists what payment has done, as (kind, subject, times, amount).
const Effects = `SELECT kind, order_id, count(*), sum(amount) FROM payments GROUP BY 1, 2`

// Takings is the money that payment has.
const Takings = `SELECT coalesce(sum(CASE kind WHEN 'charge' THEN amount ELSE -amount END), 0) FROM payments`

// Register has svc be payment, with its tables in db and its messages in box.
func Register(ctx context.Context, svc *dovetail.Service, db *sql.DB, box *outbox.Box[*sql.Tx]) error {
	if err := tables.Make(ctx, db, schema); err != nil {
		return fmt.Errorf("payment: %w", err)
	}
	paymentapi.Charge.Handle(svc, inbox.Answer(box, charge))
	paymentapi.Refund.Handle(svc, inbox.Once(box, refund))
	return nil
}

func charge(ctx context.Context, tx *sql.Tx, _ dovetail.Sender, b paymentapi.Bill) (paymentapi.Bill, error) {
	switch {
	case b.Amount <= 0:
		return b, dovetail.Refuse(paymentapi.NothingToPay, "order %s costs %v", b.Order, b.Amount)
	case b.Amount > paymentapi.Limit:
		return b, dovetail.Refuse(paymentapi.OverLimit, "order %s costs %v, and more than %v is not charged at once", b.Order, b.Amount, paymentapi.Limit)
	}
	return b, book(ctx, tx, "charge", b)
}

func refund(ctx context.Context, tx *sql.Tx, _ dovetail.Sender, b paymentapi.Bill) error {
	return book(ctx, tx, "refund", b)
}

func book(ctx context.Context, tx *sql.Tx, kind string, b paymentapi.Bill) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO payments (kind, order_id, customer, amount) VALUES ($1, $2, $3, $4)`,
		kind, b.Order, b.Customer, b.Amount)
	return err
}
