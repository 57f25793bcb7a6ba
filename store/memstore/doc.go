// Package memstore is a store in memory: the reference for what a store does,
// and a database for tests that need none.
//
//	db := memstore.New()
//	box := outbox.New(svc, db)
//	err := box.Do(ctx, func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error {
//		tx.Put("tea", []byte("8"))
//		return StockRanLow.Publish(ctx, out, Item{SKU: "tea", Count: 8})
//	})
//
// Its transactions come one after another, as SQLite's do, and what they read
// and write is a map of keys to bytes. Nothing survives the process.
package memstore
