package main

import (
	"context"
	"database/sql"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
)

// A Loan is a book in somebody's hands.
type Loan struct {
	Book   string `json:"book"`
	Reader string `json:"reader"`
}

// The contracts: a call that others may make, an event that they may hear.
var (
	Borrow   = dovetail.NewCall[Loan, Loan]("lending.borrow")
	Borrowed = dovetail.NewEvent[Loan]("lending.borrowed").Keyed(func(l Loan) string { return l.Book })
)

// borrow writes the loan, the event and the answer in one transaction.
func borrow(ctx context.Context, tx *sql.Tx, out dovetail.Sender, l Loan) (Loan, error) {
	done, err := tx.ExecContext(ctx, `INSERT INTO loans VALUES (?, ?) ON CONFLICT DO NOTHING`, l.Book, l.Reader)
	if err != nil {
		return l, err
	}
	if n, _ := done.RowsAffected(); n == 0 {
		return l, dovetail.Refuse("lent", "%s is lent already", l.Book)
	}
	return l, Borrowed.Publish(ctx, out, l)
}

// register has svc answer the call, and declares what it sends.
func register(svc *dovetail.Service, db *sqlitestore.Store) {
	Borrow.Handle(svc, inbox.Answer(outbox.New(svc, db), borrow))
	svc.Declare(Borrowed)
}
