package store

import "github.com/dovetail-go/dovetail/internal/crash"

// A Step is a place within a store's own work at which package storetest kills
// the process. A store passes those that it has, and its test names them in
// storetest.Harness.
type Step struct{ point *crash.Point }

// The steps of a store.
var (
	// Written: Commit has written everything and has not sent the commit.
	Written = Step{crash.WriterWritten}
	// Sent: Commit has sent the commit and not read the answer.
	Sent = Step{crash.WriterSent}
	// Moving: Advance has written a cursor and held rows, and not committed.
	Moving = Step{crash.RelayMoving}
	// Promoting: Promote has moved rows, and not committed.
	Promoting = Step{crash.RelayPromoting}
	// Retiring: Retire has deleted rows, and not committed.
	Retiring = Step{crash.RelayRetiring}
)

// Pass says that the store is there. It costs an atomic load.
func (s Step) Pass() { s.point.Pass() }

// String is the name of the step.
func (s Step) String() string { return s.point.Name }
