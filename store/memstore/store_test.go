package memstore_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/dovetail-go/dovetail/store/memstore"
	"github.com/dovetail-go/dovetail/store/storetest"
)

func TestStore(t *testing.T) {
	gaps := map[string]string{
		"Spoil": "messages are kept as they are, and nobody can spoil one",
		"End":   "nothing but Commit and Rollback ends a transaction", "Cut": "a transaction has no connection",
		"Sharded": "there is one shard", "Durable": "it is memory",
	}
	storetest.Run(t, storetest.Harness[*memstore.Tx]{KnownGaps: gaps, Open: func(t testing.TB, _ string) storetest.Database[*memstore.Tx] {
		s := memstore.New()
		return storetest.Database[*memstore.Tx]{
			DB: s,
			Count: func(_ context.Context, tx *memstore.Tx, key string) (int64, error) {
				n := number(tx.Get(key)) + 1
				tx.Put(key, strconv.AppendInt(nil, n, 10))
				return n, nil
			},
			Counts: func(context.Context) (map[string]int64, error) {
				all := map[string]int64{}
				for _, key := range s.Keys() {
					all[key] = number(s.Get(key))
				}
				return all, nil
			},
			Close: func() error { return nil },
		}
	}})
}

func number(text []byte, ok bool) int64 {
	if !ok {
		return 0
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		panic(err) // Count writes numbers
	}
	return n
}
