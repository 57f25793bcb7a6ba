package clustertest

import (
	"context"
	"strconv"

	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/memstore"
)

// A Database is where the services have outbox and inbox, and where they write
// down, in the same transactions, what happened: numbers with names. Its methods
// may be called at the same time.
type Database[Tx any] interface {
	// Open returns the database as one service has it, and what closes that.
	Open(ctx context.Context) (db store.DB[Tx], close func() error, err error)
	// Get returns a number as tx sees it, 0 if there is none, and keeps other
	// transactions from changing it until tx ends.
	Get(ctx context.Context, tx Tx, name string) (int, error)
	// Put sets a number.
	Put(ctx context.Context, tx Tx, name string, n int) error
	// All returns the committed numbers.
	All(ctx context.Context) (map[string]int, error)
}

// memory is one database for all, which nothing breaks.
type memory struct{ store *memstore.Store }

func (m memory) Open(context.Context) (store.DB[*memstore.Tx], func() error, error) {
	return m.store, func() error { return nil }, nil
}

func (m memory) Get(_ context.Context, tx *memstore.Tx, name string) (int, error) {
	return number(tx.Get(name))
}

func (m memory) Put(_ context.Context, tx *memstore.Tx, name string, n int) error {
	tx.Put(name, []byte(strconv.Itoa(n)))
	return nil
}

func (m memory) All(context.Context) (map[string]int, error) {
	all := map[string]int{}
	for _, name := range m.store.Keys() {
		n, err := number(m.store.Get(name))
		if err != nil {
			return nil, err
		}
		all[name] = n
	}
	return all, nil
}

func number(text []byte, ok bool) (int, error) {
	if !ok {
		return 0, nil
	}
	return strconv.Atoi(string(text))
}
