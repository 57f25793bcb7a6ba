// Package dovetail lets Go services talk to each other by message. One typed
// API covers every interaction style; the broker underneath is chosen by URL
// when the program starts; and a database transaction and the messages it
// causes commit together or not at all (packages outbox and inbox).
//
// A contract names a message type and the channel it travels on. It is declared
// once, as a package variable, and imported by both sides:
//
//	var (
//		ReserveStock = dovetail.NewCall[Item, Item]("catalog.reserve-stock")
//		StockRanLow  = dovetail.NewEvent[Item]("catalog.stock-ran-low").Keyed(func(i Item) string { return i.SKU })
//	)
//
// The contract's type decides what can be done with it:
//
//	style                     one receiver                   many receivers
//	synchronous               Call.Request                   Survey.Gather
//	asynchronous, answered    Call.Request in a goroutine    Survey.Ask
//	asynchronous, unanswered  Command.Send, Document.Send    Event.Publish
//
// A [Service] sends and handles:
//
//	svc, err := dovetail.Open(ctx, "catalog", "nats://127.0.0.1:4222")
//	ReserveStock.Handle(svc, reserve)
//	svc.Declare(StockRanLow)
//	err = svc.Run(ctx)
//
// Messages of one key are handled in order; different keys run in parallel. A
// message whose handler fails is tried again by policy and then kept as a dead
// letter, to be looked at and sent again; it never blocks other keys and never
// disappears.
package dovetail
