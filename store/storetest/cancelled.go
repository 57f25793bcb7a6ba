package storetest

import "github.com/dovetail-go/dovetail/store"

// cancelledStays: an undo that overtakes its message wins, whatever becomes of
// the message's attempts.
func (suite[Tx]) cancelledStays(e *env[Tx]) {
	overtaken := entry("overtaken")
	e.same(e.mark(store.Cancelled, overtaken), []store.State{""}, "cancelled before it came")
	e.same(e.mark(store.Dead, overtaken), []store.State{store.Cancelled}, "its attempts have failed")
	e.same(e.state(overtaken), store.Cancelled, "state of what was cancelled and then a dead letter")
	overtaken.Requeues = 1
	e.same(e.enter(overtaken), []store.State{store.Cancelled}, "requeued from the dead letters")
	e.same(e.state(overtaken), store.Cancelled, "state after the requeue")

	late := entry("late")
	e.same(e.mark(store.Dead, late), []store.State{""}, "a dead letter")
	e.same(e.mark(store.Cancelled, late), []store.State{store.Dead}, "cancelled while it is one")
	late.Requeues = 1
	e.same(e.enter(late), []store.State{store.Cancelled}, "requeued after it was cancelled")

	other, both := entry("a"), entry("b")
	e.mark(store.Cancelled, both)
	e.same(e.mark(store.Dead, other, both), []store.State{"", store.Cancelled}, "two dead letters, one of them cancelled")
	e.same(e.state(other), store.Dead, "state of the one that was not cancelled")
	e.same(e.state(both), store.Cancelled, "state of the one that was")
}
