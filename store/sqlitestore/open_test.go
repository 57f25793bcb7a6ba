package sqlitestore_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/internal/leak"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
)

// Without the tries of Store.connect, about one round in a hundred fails.
func TestOpen_of_one_new_file_by_many(t *testing.T) {
	leak.Check(t)
	dir := t.TempDir()
	for round := range 100 {
		path := filepath.Join(dir, strconv.Itoa(round)+".db")
		var opening sync.WaitGroup
		for range 8 {
			opening.Go(func() {
				s, err := sqlitestore.Open(t.Context(), path)
				if err != nil {
					t.Error(err)
					return
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		opening.Wait()
	}
}

// A store keeps bodies: nobody else may read its files.
func TestOpen_makes_files_that_their_owner_alone_may_read(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new.db")
	s, err := sqlitestore.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, name := range []string{path, path + "-wal", path + "-shm"} {
		info, err := os.Stat(name)
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s: mode %o", filepath.Base(name), mode)
		}
	}
}

// A transaction that never ends must not keep the others waiting for ever.
func TestBegin_behind_a_transaction_that_hangs_ends_by_itself(t *testing.T) {
	s, err := sqlitestore.Open(t.Context(), filepath.Join(t.TempDir(), "new.db"), sqlitestore.Options{Wait: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	ctx := context.Background() // no deadline
	tx, err := s.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Begin(ctx); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "Options.Wait") {
		t.Errorf("begin behind another: %v", err)
	}
	<-time.After(100 * time.Millisecond) // longer than one waits
	if _, err := tx.ExecContext(ctx, `CREATE TABLE t (n)`); err != nil {
		t.Errorf("the transaction itself may take its time: %v", err)
	}
	if err := s.Rollback(ctx, tx); err != nil {
		t.Error(err)
	}
	if tx, err = s.Begin(ctx); err != nil {
		t.Fatal(err)
	}
	if err := s.Rollback(ctx, tx); err != nil {
		t.Error(err)
	}
}
