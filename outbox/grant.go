package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// grantWithin is how long a transaction is waited for while others of the box
// are open.
const grantWithin = 30 * time.Second

// grant begins the database's transaction. While other transactions of the box are
// open it waits for grantWithin at most: an outer Do may wait for this one, and this one
// for the connection that the outer Do has.
func (b *Box[Tx]) grant(ctx context.Context) (tx Tx, release context.CancelFunc, err error) {
	open := b.open.Load()
	if open == 0 {
		tx, err = b.db.Begin(ctx)
		return tx, func() {}, err
	}
	late := fmt.Errorf("no transaction within %v, while %d of this box are open: a Do within a Do must be given the context that the outer one's function was given; "+
		"if there is none, give the database more connections", grantWithin, open)
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(grantWithin, func() { cancel(late) })
	tx, err = b.db.Begin(ctx)
	if inTime := timer.Stop(); err == nil && !inTime {
		err = errors.Join(late, b.db.Rollback(context.WithoutCancel(ctx), tx))
	} else if err != nil && context.Cause(ctx) == late {
		err = late
	}
	if err != nil {
		cancel(nil)
	}
	return tx, func() { cancel(nil) }, err
}
