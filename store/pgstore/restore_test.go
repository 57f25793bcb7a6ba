package pgstore_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
)

// pgBin finds one of PostgreSQL's programs.
func pgBin(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil && !strings.HasPrefix(path, "/usr/bin") {
		return path
	}
	all, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(all) == 0 {
		t.Fatalf("%s is not installed: install the Debian package postgresql", name)
	}
	slices.Sort(all)
	return all[len(all)-1]
}

func output(t *testing.T, name string, args ...string) []byte {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), pgBin(t, name), args...).Output()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return out
}

// The new cluster's transaction ids are far below those of the rows that were
// restored: a relay that did not notice would publish neither old nor new ones.
func TestRestore_into_a_new_cluster_is_noticed_and_publishes_what_is_retained(t *testing.T) {
	t.Parallel()
	from, to := servers.Start(t, servers.Postgres), servers.Start(t, servers.Postgres)
	dir := t.TempDir()
	s, _ := opened(t, from.URL(), dir, pgstore.Options{})
	ctx := t.Context()
	put := func(s *pgstore.Store, ids ...string) {
		t.Helper()
		var ms []*driver.Message
		for _, id := range ids {
			ms = append(ms, &driver.Message{ID: id, Channel: "stock", Key: "tea", Source: "catalog", Type: "t.v1"})
		}
		tx, err := s.Begin(ctx)
		must(t, err)
		must(t, s.Commit(ctx, tx, store.Writes{Messages: ms}))
	}
	for range 300 { // transaction ids to be ahead of the new cluster's
		_, err := s.Pool().Exec(ctx, `SELECT pg_current_xact_id()`)
		must(t, err)
	}
	l := newRecorder()
	stop := relaying(t, s, l, outbox.Options{})
	put(s, "a", "b")
	published(t, s)
	stop()
	put(s, "c")

	dump := filepath.Join(dir, "dump.sql")
	must(t, os.WriteFile(dump, output(t, "pg_dump", from.URL()), 0o600))
	output(t, "psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", dump, to.URL())

	restored, _ := opened(t, to.URL(), dir, pgstore.Options{})
	put(restored, "d") // a writer may come before the relay
	term, err := store.Lead(ctx, restored, 0, "somebody", time.Minute)
	must(t, err)
	c, err := restored.Resume(ctx, term, "catalog")
	must(t, err)
	if c.Restored == "" {
		t.Error("Resume does not say that the database was restored")
	}
	t.Log(c.Restored)
	again, err := restored.Resume(ctx, term, "catalog")
	must(t, err)
	if again.Restored != "" || again.Position != c.Position {
		t.Errorf("a second Resume: %+v after %+v", again, c)
	}
	must(t, restored.Resign(ctx, term.Lease))
	l = newRecorder()
	relaying(t, restored, l, outbox.Options{})
	put(restored, "e")
	published(t, restored)
	if got, want := fmt.Sprint(l.ids), "[a b c d e]"; got != want {
		t.Errorf("published after the restore: %s, want %s", got, want)
	}
}
