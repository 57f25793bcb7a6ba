// Package storetest is the suite that every store passes against its real
// server. A store plugs in with a [Harness]:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, storetest.Harness[*sql.Tx]{Durable: true, Open: open})
//	}
//
// The business side of a transaction is a counter: its row is locked when it is
// counted up, and the number that it gives says where a message belongs in the
// order of its key. What was published must then be exactly the numbers up to
// the counter's, in order.
package storetest
