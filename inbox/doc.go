// Package inbox gives a handler one effect for each message (Idempotent
// consumer in Microservices Patterns): what it changes, what it sends and the
// note that the message was handled commit in one transaction. A message that
// comes again finds the note and is answered as it was the first time.
//
//	ReserveStock.Handle(svc, inbox.Answer(box, reserve))
//	OrderPlaced.Subscribe(svc, inbox.Once(box, ship))
//	OrderPlaced.SubscribeBatch(svc, inbox.Batch(box, index), dovetail.Group("search"))
//
// A message is recognised by its group, its handler, its source and its id.
package inbox
