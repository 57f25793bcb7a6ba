package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"hash/crc32"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
	"github.com/dovetail-go/dovetail/verify"
	"github.com/rogpeppe/go-internal/testscript"
)

// A faulty store does what no store may: it passes one row in twelve over,
// however often that is read. Now and then it hands one out under another id,
// damaged or before its predecessor. It keeps what was undone, and forgets what
// was handled.
type faulty struct {
	*sqlitestore.Store
	rows int
}

func (f *faulty) Next(ctx context.Context, t store.Term, after, done store.Position, max store.Limit) (store.Page, error) {
	page, err := f.Store.Next(ctx, t, after, done, max)
	page.Rows = slices.DeleteFunc(page.Rows, func(r store.Row) bool { return crc32.ChecksumIEEE([]byte(r.Message.ID))%12 == 0 })
	last := map[string]int{} // index of each key's last row
	for i := range page.Rows {
		m := page.Rows[i].Message
		f.rows++
		switch f.rows % 30 {
		case 5:
			m.ID = "invented/" + m.ID
		case 15:
			m.Body = bytes.Replace(m.Body, []byte("é"), []byte("e"), 1)
		}
		if j, ok := last[m.Key]; ok && f.rows%10 == 7 {
			page.Rows[i].Message, page.Rows[j].Message = page.Rows[j].Message, m
		}
		last[m.Key] = i
	}
	return page, err
}

func (f *faulty) Insert(ctx context.Context, tx *sql.Tx, entries []store.Entry) ([]store.InboxRow, error) {
	found, err := f.Store.Insert(ctx, tx, entries)
	return make([]store.InboxRow, len(found)), err
}

func (f *faulty) RollbackTo(context.Context, *sql.Tx, string) error { return nil }

// faultyProgram is the program with faulty stores, also in the processes that it
// starts.
func faultyProgram() {
	storeKinds["sqlite"].open = func(ctx context.Context, u *url.URL, o storeOptions) (database, error) {
		db, err := openSQLite(ctx, u, o)
		if err != nil {
			return nil, err
		}
		one := db.(*opened[*sql.Tx])
		one.own.DB = &faulty{Store: one.DB.(*sqlitestore.Store)}
		return one, nil
	}
	main()
}

// verdictCommand: verdict. The report on stdout finds every kind of fault that a
// faulty store makes.
func verdictCommand(ts *testscript.TestScript, neg bool, args []string) {
	var rep verify.Report
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &rep))
	for what, n := range map[string]int64{"lost": rep.Lost, "invented": rep.Invented, "double": rep.Double,
		"inversions": rep.Inversions, "torn": rep.Torn, "untrue": rep.Untrue} {
		if n == 0 {
			ts.Fatalf("%s 0: want what the faulty store did to be found", what)
		}
	}
	if rep.Holds {
		ts.Fatalf("the report says that it holds")
	}
	kinds := map[verify.Kind]bool{}
	for _, f := range rep.Findings {
		kinds[f.Kind] = true
	}
	for _, k := range verify.Kinds {
		if !kinds[k] && k != verify.Stuck && k != verify.Abandoned { // the store forgets and changes; it keeps nothing back
			ts.Fatalf("no finding of kind %s", k)
		}
	}
}

// verifyingCommand: verifying FILE. Waits until a run has committed something in
// the SQLite file.
func verifyingCommand(ts *testscript.TestScript, neg bool, args []string) {
	ctx := context.Background()
	path := filepath.Join(ts.Getenv("WORK"), args[0])
	eventually(ts, "a verification to commit", func() bool {
		if _, err := os.Stat(path); err != nil {
			return false
		}
		db, err := sqlitestore.Open(ctx, path)
		ts.Check(err)
		defer db.Close()
		out := verify.SQL(db.DB(), "?")
		var table string
		ts.Check(out.Query(ctx, `SELECT name FROM sqlite_master WHERE type = 'table'`, nil, func(scan func(...any) error) error {
			var name string
			err := scan(&name)
			if strings.HasSuffix(name, "w_number") {
				table = name
			}
			return err
		}))
		n := 0
		if table != "" {
			ts.Check(out.Query(ctx, `SELECT count(*) FROM `+table, nil, func(scan func(...any) error) error { return scan(&n) }))
		}
		return n > 0
	})
}

func TestShare_reads_per_cent_and_fractions(t *testing.T) {
	for text, want := range map[string]float64{"10%": 0.1, "0.25": 0.25, "0": -1, "0%": -1, "90%": 0.9} {
		if got, err := share("--x", text); got != want || err != nil {
			t.Errorf("%s: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "x", "91%", "-1", "1", "nan", "NaN%"} {
		if got, err := share("--x", text); err == nil {
			t.Errorf("%q: %v, want an error", text, got)
		}
	}
}

func TestVerifyLine_has_room_at_a_narrow_terminal(t *testing.T) {
	for _, n := range []verify.Progress{
		{Phase: "writing", Done: 12 * time.Second, Of: 90 * time.Second, Committed: 12},
		{Phase: "writing", Done: 123 * time.Second, Of: 900 * time.Second, Committed: 123456, Handled: 123456, Kills: 123},
		{Phase: "draining", Done: 12 * time.Second, Of: 30 * time.Second, Committed: 1234567, Handled: 1234567, Kills: 1234, Broken: "rolling node-1"},
		{Phase: "writing", Done: 12 * time.Second, Of: 90 * time.Second, Committed: 123456, Handled: 123456, Broken: "majority pod/nats-1, pod/nats-2, pod/nats-3"},
	} {
		line := verifyLine(n)
		if len(line) > 79 || !strings.Contains(line, n.Phase) || n.Broken != "" && !strings.Contains(line, "; "+n.Broken[:7]) {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}

// A cluster of real servers is broken by its harness, through the same options as
// those of the command.
func TestVerify_breaks_the_nodes_of_a_cluster(t *testing.T) {
	c := servers.StartCluster(t, servers.NATS, 3)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	do := map[string]func(ctx context.Context, s *servers.Server) error{
		"kill":    func(_ context.Context, s *servers.Server) error { return s.Kill() },
		"stop":    func(ctx context.Context, s *servers.Server) error { return s.Stop(ctx) },
		"pause":   func(_ context.Context, s *servers.Server) error { return s.Pause() },
		"resume":  func(_ context.Context, s *servers.Server) error { return s.Resume() },
		"restart": func(ctx context.Context, s *servers.Server) error { return s.Restart(ctx) },
	}
	nodes := map[string]*servers.Server{}
	o := verify.Options{
		Broker: c.URL() + "&partitions=4&ping=1s&timeout=3s&ack-wait=5s", Store: "sqlite:" + filepath.Join(t.TempDir(), "w.db"), Effects: "sqlite:" + filepath.Join(t.TempDir(), "c.db"),
		Dir: t.TempDir(), Open: openVerified, Paths: []string{}, Writers: 2, Relays: 1, Consumers: 2, Keys: 40, Ahead: 100, Seconds: 15, Seed: 1,
		Command:    func() *exec.Cmd { return &exec.Cmd{Path: self, Args: []string{"dovetail", "verify", "serve"}} },
		NodeFaults: []string{"kill", "stop", "freeze"}, NodeEvery: time.Second, NodeAway: 2 * time.Second,
		Node: func(ctx context.Context, what, node string) error { return do[what](ctx, nodes[node]) },
	}
	for _, s := range c.Nodes() {
		o.Nodes, nodes[s.Name()] = append(o.Nodes, s.Name()), s
	}
	rep, err := verify.Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	if err := rep.Print(&text); err != nil {
		t.Fatal(err)
	}
	t.Log(text.String())
	if !rep.Holds || !rep.Complete || rep.Still == 0 {
		t.Error("it does not hold")
	}
	for _, n := range rep.Nodes {
		if n.Times == 0 {
			t.Errorf("%s never happened", n.Fault)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, s := range c.Nodes() {
		for err := s.Answers(ctx); err != nil; err = s.Answers(ctx) { // one may be a step behind the others
			select {
			case <-time.After(100 * time.Millisecond):
			case <-ctx.Done():
				t.Fatalf("%s does not answer after the run: %v", s.Name(), err)
			}
		}
	}
}
