package sqlitestore_test

import (
	"path/filepath"
	"strconv"
	"sync"
	"testing"

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
