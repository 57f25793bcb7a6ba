// Package mail writes to customers. Instead of sending, it keeps what it would
// have sent.
package mail

import (
	"context"
	"database/sql"
	"fmt"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/examples/eshop/mail/mailapi"
	"github.com/dovetail-go/dovetail/examples/eshop/ordering/orderingapi"
	"github.com/dovetail-go/dovetail/examples/eshop/tables"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
)

// schema has no unique key on the subject, on purpose: a second effect of one
// message would show in the balance, instead of being swallowed here.
const schema = `
CREATE TABLE IF NOT EXISTS mails (
	kind    TEXT NOT NULL, -- confirmation, welcome
	subject TEXT NOT NULL, -- the order, or the customer
	text    TEXT NOT NULL
);`

// Effects lists what mail has done, as (kind, subject, times, amount).
const Effects = `SELECT kind, subject, count(*), 0 FROM mails GROUP BY 1, 2`

// Register has svc be mail, with its tables in db and its messages in box.
func Register(ctx context.Context, svc *dovetail.Service, db *sql.DB, box *outbox.Box[*sql.Tx]) error {
	if err := tables.Make(ctx, db, schema); err != nil {
		return fmt.Errorf("mail: %w", err)
	}
	orderingapi.OrderPlaced.Subscribe(svc, inbox.Once(box, confirm))
	mailapi.SendWelcome.Handle(svc, inbox.Once(box, welcome))
	return nil
}

func confirm(ctx context.Context, tx *sql.Tx, _ dovetail.Sender, o orderingapi.Order) error {
	return write(ctx, tx, "confirmation", o.ID, fmt.Sprintf("Thank you for order %s: %d things for £%v.", o.ID, o.Units(), o.Total()))
}

func welcome(ctx context.Context, tx *sql.Tx, _ dovetail.Sender, w mailapi.Welcome) error {
	return write(ctx, tx, "welcome", w.Customer, fmt.Sprintf("Welcome, customer %s! Your first order, %s, is on its way.", w.Customer, w.Order))
}

func write(ctx context.Context, tx *sql.Tx, kind, subject, text string) error {
	_, err := tx.ExecContext(ctx, `INSERT INTO mails (kind, subject, text) VALUES ($1, $2, $3)`, kind, subject, text)
	return err
}
