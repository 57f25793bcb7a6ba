package store

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// DB is a database as packages outbox and inbox need it. Tx is the type of the
// transactions that users' functions get. Its methods are safe for concurrent
// use; a transaction is used by one goroutine at a time.
type DB[Tx any] interface {
	Transactions[Tx]
	Outbox[Tx]
	Inbox[Tx]
	Relay
	HeldQueue
	Leases
	Migrator
}

// Errors that a DB returns, wrapped with what was being done.
var (
	// ErrUnknown: a commit was not answered; the transaction may or may not
	// have happened. Outbox.Resolve finds out.
	ErrUnknown = errors.New("commit outcome unknown")
	// ErrLeased: somebody else holds the lease.
	ErrLeased = errors.New("leased by another")
	// ErrFenced: the lease under which this was tried has passed, and nothing
	// was changed.
	ErrFenced = errors.New("lease has passed")
	// ErrOwner: the outbox belongs to another service.
	ErrOwner = errors.New("outbox belongs to another service")
)

// Transactions begins and ends transactions. Whoever began one must end it with
// Commit or Rollback.
type Transactions[Tx any] interface {
	// Begin waits for a connection and begins a transaction that writes.
	Begin(ctx context.Context) (Tx, error)

	// Commit writes w and commits, in one round trip where the protocol can.
	// nil says that all of it is committed, ErrUnknown that it may be; any
	// other error that it is rolled back. The transaction has ended in every
	// case.
	Commit(ctx context.Context, tx Tx, w Writes) error

	// Rollback undoes the transaction. It works without regard to ctx's end,
	// and on a transaction that has ended already does nothing.
	Rollback(ctx context.Context, tx Tx) error

	// Savepoint begins a part of the transaction that can be undone alone;
	// RollbackTo undoes what was done since and keeps the savepoint; Release
	// forgets it. name is a plain identifier.
	Savepoint(ctx context.Context, tx Tx, name string) error
	RollbackTo(ctx context.Context, tx Tx, name string) error
	Release(ctx context.Context, tx Tx, name string) error
}

// PartName is what the savepoint of a part is called that is so deep within
// others, from 1: a store may begin one that it sees coming.
func PartName(depth int) string { return "dovetail_" + strconv.Itoa(depth) }

// Writes is what a transaction leaves behind besides the user's own changes.
type Writes struct {
	Token    string            // proof that the transaction committed (see Outbox.Resolve); empty for none
	Messages []*driver.Message // to be published, in order
	Later    []*driver.Message // to enter the outbox when they are due
	Replies  []KeptReply       // of inbox rows that this transaction entered
}

// Outbox is the writing side of the outbox. Messages written by committed
// transactions that had locked the same row are published in the order in which
// they held the lock, if they were written by Commit.
type Outbox[Tx any] interface {
	// Write writes w.Messages and w.Later at once, in a transaction that may be
	// somebody else's. The rest of w is ignored.
	Write(ctx context.Context, tx Tx, w Writes) error

	// Cancel deletes messages, by source and id, that were to be sent later. It
	// returns how many were there; the others have become ordinary messages
	// already.
	Cancel(ctx context.Context, tx Tx, source string, ids []string) (int, error)

	// Resolve finds out what became of a transaction whose commit was not
	// answered, by inserting its token again: if that is a duplicate, it
	// committed, and is as safe as a commit that was answered; otherwise it had
	// not, and never will, since the token stands
	// in its way. It waits for a commit that hangs; an error says that the
	// outcome is still unknown, and the next call finds out: a token that an
	// earlier one has inserted is no proof of a commit.
	Resolve(ctx context.Context, token string) (committed bool, err error)

	// Forget deletes at most max tokens that are older than before and returns
	// how many.
	Forget(ctx context.Context, before time.Time, max int) (int, error)

	// Signal is notified after each commit that wrote messages in this process,
	// and, where the database can tell, in others.
	Signal() *Signal
}

// Migrator keeps the tables that a store needs.
type Migrator interface {
	// Migrations are all steps, in order, as they can be printed and run by
	// hand.
	Migrations() []Migration

	// Migrate runs the steps that the database has not seen. Running it again,
	// also from several processes at once, is right.
	Migrate(ctx context.Context) error
}

// A Migration is one step of a store's schema.
type Migration struct {
	Version int    // from 1, without gaps
	Name    string // what it does, in a few words
	SQL     string // statements, each ended with a semicolon
}
