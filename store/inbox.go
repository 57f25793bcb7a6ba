package store

import (
	"cmp"
	"context"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A Key identifies what one handler did with one message.
type Key struct {
	Group   string // the subscription's
	Handler string // within the group
	Source  string // the message's
	ID      string
}

// Compare orders keys as batches must enter them: two transactions that lock
// the same rows in different orders deadlock.
func (k Key) Compare(o Key) int {
	return cmp.Or(cmp.Compare(k.Group, o.Group), cmp.Compare(k.Handler, o.Handler),
		cmp.Compare(k.Source, o.Source), cmp.Compare(k.ID, o.ID))
}

// A State is what became of a message.
type State string

// The states of an inbox row.
const (
	Handled   State = "handled"   // its effect is committed
	Dead      State = "dead"      // it is among the dead letters
	Released  State = "released"  // it left the dead letters and may be handled
	Cancelled State = "cancelled" // it must not be handled, should it come
)

// An Entry asks to handle a message.
type Entry struct {
	Key
	Requeues int       // how often it was sent again from the dead letters
	Since    time.Time // from which its age counts: the later of now and when it was due
}

// An InboxRow is an inbox row. The zero value stands for none.
type InboxRow struct {
	State    State
	Requeues int // of the message when the row was last written
	Reply    driver.Reply
}

// A KeptReply is a reply and the row that keeps it.
type KeptReply struct {
	Key
	Reply driver.Reply
}

// Inbox remembers what was handled (Idempotent Receiver in Enterprise
// Integration Patterns). A row commits together with the effect that it stands
// for.
type Inbox[Tx any] interface {
	// Insert inserts a row in state handled for each entry, as the transaction's
	// first statement. Entries are sorted by Key.Compare and distinct. It
	// returns, by index, the rows that were there before; their zero value says
	// that the entry is new. It waits for another transaction that is entering
	// the same key.
	//
	// A row that was released, or dead with fewer requeues than the entry, is
	// taken over: it becomes handled, and is returned in state released. Rows
	// in other states are left as they are.
	//
	// Who settles a message by what was there before commits the transaction
	// first: a commit says of what the transaction saw, too, that it is safe.
	Insert(ctx context.Context, tx Tx, entries []Entry) ([]InboxRow, error)

	// Undo undoes Insert for entries whose effect was rolled back to a
	// savepoint: new rows are deleted, taken-over ones get the state released
	// again. found is what Insert returned for them.
	Undo(ctx context.Context, tx Tx, entries []Entry, found []InboxRow) error

	// Mark sets the state of rows, inserting those that are missing, except
	// that a handled row stays, and that Dead leaves a cancelled row cancelled:
	// what was undone must not be handled from the dead letters. It returns what
	// was there before.
	Mark(ctx context.Context, tx Tx, entries []Entry, s State) ([]InboxRow, error)

	// Lookup returns the committed rows of keys, by index, without locking, once
	// they are as safe as a commit that was answered.
	Lookup(ctx context.Context, keys []Key) ([]InboxRow, error)

	// Purge deletes at most max handled rows since before a time, oldest first,
	// and returns how many. Rows in other states are kept.
	Purge(ctx context.Context, before time.Time, max int) (int, error)
}
