package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
)

// A server that is killed in the middle, twice: everything that a writer was
// told is committed is published, in order, and nothing else.
func TestServer_that_is_killed_loses_and_invents_nothing(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"on", "off"} {
		t.Run("synchronous_commit="+mode, func(t *testing.T) {
			t.Parallel()
			srv := servers.Start(t, servers.Postgres)
			url := srv.URL() + "&synchronous_commit=" + mode
			s, counter := opened(t, url, t.TempDir(), pgstore.Options{Conns: 30})
			l := newRecorder()
			relaying(t, s, l, outbox.Options{Lease: 500 * time.Millisecond, CursorInterval: 10 * time.Millisecond, CleanupInterval: 200 * time.Millisecond})
			box := outbox.New(newStub(1<<60), s, outbox.Options{NoRelay: true})
			var wg sync.WaitGroup
			var committed, failed, unknown atomic.Int64
			stop := make(chan struct{})
			for w := range 16 {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(uint64(w), 3))
					for {
						select {
						case <-stop:
							return
						default:
						}
						ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
						err := business(ctx, box, counter, r)
						cancel()
						switch {
						case err == errNot:
						case err == nil:
							committed.Add(1)
						case errors.Is(err, dovetail.ErrUnknownOutcome):
							unknown.Add(1)
						default:
							failed.Add(1)
							pause(t, 20*time.Millisecond)
						}
					}
				})
			}
			for range 2 {
				pause(t, 800*time.Millisecond)
				must(t, srv.Kill())
				must(t, srv.Restart(t.Context()))
			}
			pause(t, 500*time.Millisecond)
			close(stop)
			wg.Wait()
			published(t, s)
			all, err := counts(t.Context(), s.Pool(), counter)
			must(t, err)
			l.compare(t, all, 2*2000) // what was published and not yet written down comes again
			total := int64(0)
			for _, n := range all {
				total += n
			}
			t.Logf("%d transactions told committed, %d failed, %d unknown; %d in the database", committed.Load(), failed.Load(), unknown.Load(), total)
			if mode == "on" && committed.Load() > total {
				t.Error("transactions that were told committed are not in the database")
			}
			if committed.Load() < 100 {
				t.Error("too few transactions to show anything")
			}
		})
	}
}

// A connection that dies between COMMIT and its answer: the outcome is unknown
// until the token tells.
func TestCommit_without_an_answer_is_unknown_until_its_token_is_inserted_again(t *testing.T) {
	t.Parallel()
	url := server(t)
	dir := t.TempDir()
	direct, counter := opened(t, url, dir, pgstore.Options{})
	proxy := servers.NewProxy(t, strings.Split(strings.Split(url, "@")[1], "/")[0])
	s, _ := opened(t, proxy.URL(url), dir, pgstore.Options{Timeout: time.Second})
	ctx := t.Context()
	tx, err := s.Begin(ctx)
	must(t, err)
	var n int64
	must(t, tx.QueryRow(ctx, countSQL(counter), "tea").Scan(&n))
	proxy.Stall() // what is sent does not arrive, and no answer comes
	err = s.Commit(ctx, tx, store.Writes{Token: "stalled", Messages: []*driver.Message{benchMessage(1)}})
	if !errors.Is(err, store.ErrUnknown) {
		t.Fatalf("commit over a stalled link: %v, want ErrUnknown", err)
	}
	proxy.Cut()
	proxy.Heal()
	committed, err := direct.Resolve(ctx, "stalled")
	must(t, err)
	all, err := counts(ctx, direct.Pool(), counter)
	must(t, err)
	if committed != (all["tea"] == 1) {
		t.Errorf("resolved as committed=%v, and the counter is %d", committed, all["tea"])
	}
	// The store comes back by itself.
	tx, err = s.Begin(ctx)
	must(t, err)
	must(t, s.Commit(ctx, tx, store.Writes{Token: "healed"}))
}

// A COMMIT that hangs: to look for its rows proves nothing, and to insert its
// token waits.
func TestResolve_of_a_commit_that_hangs_stays_unknown(t *testing.T) {
	t.Parallel()
	s, counter := opened(t, server(t), t.TempDir(), pgstore.Options{})
	ctx := t.Context()
	tx, err := s.Pool().Begin(ctx)
	must(t, err)
	_, err = tx.Exec(ctx, `INSERT INTO `+strings.TrimSuffix(counter, "counter")+`dovetail_token (token) VALUES ('hangs')`)
	must(t, err)
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	if committed, err := s.Resolve(short, "hangs"); err == nil {
		t.Fatalf("resolved as committed=%v while it was undecided", committed)
	}
	must(t, tx.Commit(ctx))
	committed, err := s.Resolve(ctx, "hangs")
	must(t, err)
	if !committed {
		t.Error("a transaction that committed late is said not to have")
	}
}

// A prepared transaction is one that commits late.
func TestPrepared_transaction_is_published_when_it_commits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, _ := opened(t, server(t), dir, pgstore.Options{NoReorder: true})
	ctx := t.Context()
	l := newRecorder()
	relaying(t, s, l, outbox.Options{})
	send := func(tx pgx.Tx, id string) {
		must(t, s.Write(ctx, tx, store.Writes{Messages: []*driver.Message{{ID: id, Channel: "stock", Source: "catalog", Type: "t.v1"}}}))
	}
	conn, err := s.Pool().Acquire(ctx)
	must(t, err)
	tx, err := conn.Begin(ctx)
	must(t, err)
	send(tx, "prepared")
	_, err = tx.Exec(ctx, fmt.Sprintf(`PREPARE TRANSACTION '%s'`, schema(dir)))
	must(t, err)
	conn.Release()
	for i := range 50 {
		tx, err := s.Begin(ctx)
		must(t, err)
		send(tx, fmt.Sprint(i))
		must(t, s.Commit(ctx, tx, store.Writes{}))
	}
	s.Signal().Notify()
	for l.len() < 50 {
		pause(t, 5*time.Millisecond)
	}
	_, err = s.Pool().Exec(ctx, fmt.Sprintf(`COMMIT PREPARED '%s'`, schema(dir)))
	must(t, err)
	published(t, s)
	if l.len() != 51 || l.ids[50] != "prepared" {
		t.Errorf("published %d: %v", l.len(), l.ids)
	}
}

// A writer that does not wait for its commits to be on disk, and a server that
// is killed at once: its transaction ids are given out again. What was read for
// publishing must be there all the same, and what comes after must be seen.
func TestWriter_with_asynchronous_commits_loses_nothing_that_was_read(t *testing.T) {
	t.Parallel()
	srv := servers.Start(t, servers.Postgres)
	ctx := t.Context()
	dir := t.TempDir()
	s, _ := opened(t, srv.URL()+"&synchronous_commit=off", dir, pgstore.Options{})
	for _, set := range []string{`ALTER SYSTEM SET wal_writer_delay = '10s'`, `SELECT pg_reload_conf()`} {
		_, err := s.Pool().Exec(ctx, set)
		must(t, err)
	}
	put := func(id string) error {
		tx, err := s.Begin(ctx)
		if err != nil {
			return err
		}
		return s.Commit(ctx, tx, store.Writes{Messages: []*driver.Message{{ID: id, Channel: "stock", Source: "catalog", Type: "t.v1"}}})
	}
	term, err := store.Lead(ctx, s, 0, "leader", time.Hour)
	must(t, err)
	c, err := s.Resume(ctx, term, "catalog")
	must(t, err)
	after := c.Position
	var lost, kept int
	for round := range 4 {
		read := fmt.Sprintf("read-%d", round)
		must(t, put(read))
		page, err := s.Next(ctx, term, after, store.Position{}, store.Limit{Rows: 100, Bytes: 1 << 20})
		for err != nil { // after a restart: the connection is dead, as others below
			page, err = s.Next(ctx, term, after, store.Position{}, store.Limit{Rows: 100, Bytes: 1 << 20})
		}
		if len(page.Rows) == 0 || page.Rows[len(page.Rows)-1].Message.ID != read {
			t.Fatalf("round %d: %d rows, want %s at their end", round, len(page.Rows), read)
		}
		after = page.Rows[len(page.Rows)-1].Position
		for i := range 10 { // not read: the crash may take them
			must(t, put(fmt.Sprintf("unread-%d-%d", round, i)))
		}
		must(t, srv.Kill())
		must(t, srv.Restart(ctx))
		var have []string
		for { // the pool's connections are dead, and it finds out one by one
			rows, err := s.Pool().Query(ctx, `SELECT id FROM `+schema(dir)+`.dovetail_outbox`)
			if err == nil {
				if have, err = pgx.CollectRows(rows, pgx.RowTo[string]); err == nil {
					break
				}
			}
		}
		for r := range round + 1 {
			if id := fmt.Sprintf("read-%d", r); !slices.Contains(have, id) {
				t.Errorf("%s was read for publishing and is gone", id)
			}
		}
		lost += 10
		for _, id := range have {
			if strings.HasPrefix(id, fmt.Sprintf("unread-%d-", round)) {
				lost, kept = lost-1, kept+1
			}
		}
		for s.Resign(ctx, term.Lease) != nil { // likewise
		}
		term, err = store.Lead(ctx, s, 0, "leader", time.Hour)
		must(t, err)
		c, err := s.Resume(ctx, term, "catalog")
		must(t, err)
		if c.Position.Window > after.Window {
			t.Fatalf("the cursor is at %v, beyond %v", c.Position, after)
		}
	}
	if lost == 0 {
		t.Error("no crash took anything: the test shows nothing")
	}
	t.Logf("of what was not read, %d were lost with the server and %d kept", lost, kept)
}
