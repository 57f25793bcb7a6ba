package main

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/dovetailtest"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
)

// open returns a database in the test's directory, with the service's table.
func open(t *testing.T) *sqlitestore.Store {
	db, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "lending.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	if _, err := db.DB().Exec(`CREATE TABLE loans (book TEXT PRIMARY KEY, reader TEXT)`); err != nil {
		t.Fatal(err)
	}
	return db
}

func TestBorrow_is_answered_once_and_told(t *testing.T) {
	dovetailtest.Run(t, func(t *testing.T, h *dovetailtest.Harness) {
		svc := h.Service("lending")
		register(svc, open(t))
		desk := h.Service("desk") // another service, as it would call and listen
		var heard []Loan
		Borrowed.Subscribe(desk, func(_ context.Context, l Loan) error {
			heard = append(heard, l)
			return nil
		})
		desk.Declare(Borrow)
		h.Start()

		want := Loan{"Emma", "ann"}
		for range 2 { // the second time under the same id, as after a crash
			if got, err := Borrow.Request(t.Context(), desk, want, dovetail.ID("form-1")); got != want || err != nil {
				t.Fatalf("got %v, %v", got, err)
			}
		}
		_, err := Borrow.Request(t.Context(), desk, Loan{"Emma", "bob"})
		var refusal *dovetail.RemoteRefusal
		if !errors.As(err, &refusal) || refusal.Code != "lent" {
			t.Errorf("the second reader got %v", err)
		}
		h.Advance(time.Second) // the relay publishes
		if len(heard) != 1 || heard[0] != want {
			t.Errorf("heard %v", heard)
		}
	})
}
