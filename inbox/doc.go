// Package inbox gives a handler one effect for each message (Idempotent
// consumer in Microservices Patterns). What the handler changes, what it sends, and
// a row that says that the message was handled commit in one transaction. When the
// message is delivered again, the row is found: the handler's function is not called,
// and a request gets the same answer as before.
//
//	ReserveStock.Handle(svc, inbox.Answer(box, reserve))
//	OrderPlaced.Subscribe(svc, inbox.Once(box, ship))
//	OrderPlaced.SubscribeBatch(svc, inbox.Batch(box, index), dovetail.Group("search"))
//
// A message is recognised by its group, its handler, its source and its id, for as long
// as the box's Options.InboxRetention says. The functions here return handlers, which
// are safe for concurrent use.
//
// The function f that they are given gets a transaction and a sender; both are f's until
// it returns. f may be called several times for one message, but only one call takes
// effect. What f does outside of the transaction is not undone. f's context belongs to
// the transaction: a service that is given it does not send
// (dovetail.ErrInTransaction), so f sends with its sender. While the database is away,
// messages wait, and no attempt is counted.
package inbox
