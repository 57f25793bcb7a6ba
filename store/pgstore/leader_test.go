package pgstore_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
)

// relayVariable has a test process be a relay on the store of a directory, with
// a file in it as its broker.
const relayVariable = "DOVETAIL_PGSTORE_TEST_RELAY"

// appended is a file that processes append lines to.
func appended(t *testing.T, path string) (put func(lines ...string)) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return func(lines ...string) {
		if _, err := f.WriteString(strings.Join(lines, "\n") + "\n"); err != nil {
			t.Error(err)
		}
	}
}

func lines(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	must(t, err)
	return strings.Fields(string(text))
}

// stoppable are the options of a relay that is stopped for longer than its lease.
var stoppable = outbox.Options{Lease: time.Second, Batch: 5, CursorInterval: 10 * time.Millisecond}

// relayProcess publishes until it is killed, a few messages at a time.
func relayProcess(t *testing.T, dir string) {
	s, _ := opened(t, server(t), dir, pgstore.Options{})
	put, said := appended(t, filepath.Join(dir, "sent")), appended(t, filepath.Join(dir, "said"))
	svc := newStub(1 << 60)
	svc.log = slog.New(slog.NewJSONHandler(lineWriter(said), nil))
	svc.take = func(ms []*driver.Message) {
		for _, m := range ms {
			put("child/" + m.ID)
		}
		pause(t, 20*time.Millisecond)
	}
	outbox.New(svc, s, stoppable)
	must(t, svc.component.Run(t.Context()))
}

type lineWriter func(...string)

func (w lineWriter) Write(p []byte) (int, error) {
	w(string(bytes.ReplaceAll(p, []byte(" "), []byte("_"))))
	return len(p), nil
}

// A leader that is stopped, by SIGSTOP, for longer than its lease, and wakes up
// after another has published everything: nothing of its term lands.
func TestLeader_that_is_stopped_past_its_lease_changes_nothing(t *testing.T) {
	if dir := os.Getenv(relayVariable); dir != "" {
		relayProcess(t, dir)
		return
	}
	t.Parallel()
	dir := t.TempDir()
	s, _ := opened(t, server(t), dir, pgstore.Options{})
	ctx := t.Context()
	put := func(from, to int) {
		t.Helper()
		var ms []*driver.Message
		for i := from; i < to; i++ {
			ms = append(ms, &driver.Message{ID: fmt.Sprint(i), Channel: "stock", Key: fmt.Sprintf("key-%d", i%7), Source: "catalog", Type: "t.v1"})
		}
		tx, err := s.Begin(ctx)
		must(t, err)
		must(t, s.Commit(ctx, tx, store.Writes{Messages: ms}))
	}
	const all = 400
	put(0, all)
	sent, said := filepath.Join(dir, "sent"), filepath.Join(dir, "said")
	write := appended(t, sent)
	_ = appended(t, said)
	exe, err := os.Executable()
	must(t, err)
	child := exec.CommandContext(ctx, exe, "-test.run=^"+t.Name()+"$", "-test.timeout=2m")
	child.Env = append(os.Environ(), relayVariable+"="+dir, "TMPDIR="+t.TempDir())
	must(t, child.Start())
	t.Cleanup(func() {
		_ = child.Process.Kill()
		_ = child.Wait() // it was killed
	})
	for len(lines(t, sent)) < 20 {
		pause(t, 5*time.Millisecond)
	}
	must(t, child.Process.Signal(syscall.SIGSTOP))

	svc := newStub(1 << 60)
	svc.take = func(ms []*driver.Message) {
		for _, m := range ms {
			write("parent/" + m.ID)
		}
	}
	outbox.New(svc, s, stoppable)
	running, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- svc.component.Run(running) }()
	t.Cleanup(func() {
		cancel()
		must(t, <-ended)
	})
	published(t, s)
	before := lines(t, sent)
	var cursor, after string
	position := func(to *string) {
		t.Helper()
		must(t, s.Pool().QueryRow(ctx, `SELECT concat_ws('/', win, after) FROM `+schema(dir)+`.dovetail_cursor`).Scan(to))
	}
	position(&cursor)

	must(t, child.Process.Signal(syscall.SIGCONT))
	for !strings.Contains(strings.Join(lines(t, said), ""), "lease_was_lost") {
		pause(t, 5*time.Millisecond)
	}
	position(&after)
	if cursor != after {
		t.Errorf("the cursor was at %s and is at %s", cursor, after)
	}
	put(all, all+1)
	published(t, s)
	got := lines(t, sent)
	late := 0
	for _, line := range got[len(before):] {
		if strings.HasPrefix(line, "child/") {
			late++
		}
	}
	if late > stoppable.Batch {
		t.Errorf("the leader whose lease had passed published %d messages, want no more than were under way", late)
	}
	seen, last := map[string]bool{}, map[int]int{}
	for _, line := range got {
		_, id, _ := strings.Cut(line, "/")
		var i int
		if _, err := fmt.Sscan(id, &i); err != nil {
			t.Fatal(line, err)
		}
		if !seen[id] && i <= last[i%7] && i > 6 {
			t.Errorf("%d came after %d", i, last[i%7])
		}
		seen[id] = true
		last[i%7] = max(last[i%7], i)
	}
	if len(seen) != all+1 {
		t.Errorf("%d of %d messages were published", len(seen), all+1)
	}
	t.Logf("%d lines, %d by the stopped leader after it went on", len(got), late)
}

// One channel fails, and the others go on; when it works again, what waited for
// it comes in order.
func TestChannel_that_fails_does_not_stop_the_others(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, counter := opened(t, server(t), dir, pgstore.Options{})
	l := newRecorder()
	var sick atomic.Bool
	sick.Store(true)
	var good, tried atomic.Int64
	svc := newStub(1 << 60)
	svc.take = func(ms []*driver.Message) {
		l.take(ms)
		for _, m := range ms {
			if m.Channel == "good" {
				good.Add(1)
			}
		}
	}
	svc.refuse = func(m *driver.Message) error {
		if m.Channel == "bad" && sick.Load() {
			tried.Add(1)
			return fmt.Errorf("not today: %w", driver.ErrDenied)
		}
		return nil
	}
	box := outbox.New(svc, s, outbox.Options{Batch: 50})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- svc.component.Run(ctx) }()
	const n = 1500 // of each, far more than the relay has in hand
	for i := 0; i < n; i += 100 {
		tx, err := s.Begin(ctx)
		must(t, err)
		var ms []*driver.Message
		for k := i; k < i+100; k++ {
			for _, channel := range []string{"good", "bad"} {
				key := fmt.Sprintf("%s-%d", channel, k%5)
				ms = append(ms, &driver.Message{ID: fmt.Sprintf("%s/%d", key, k/5+1), Channel: channel, Key: key, Source: "catalog", Type: "t.v1"})
			}
		}
		for k := range 10 {
			_, err := tx.Exec(ctx, `INSERT INTO `+counter+` AS c VALUES ($1, 20) ON CONFLICT (key) DO UPDATE SET n = c.n + 20`, fmt.Sprintf("%s-%d", []string{"good", "bad"}[k%2], k/2))
			must(t, err)
		}
		must(t, s.Commit(ctx, tx, store.Writes{Messages: ms}))
	}
	s.Signal().Notify()
	for {
		st, err := box.Stats(ctx)
		must(t, err)
		if good.Load() == n && st.Held == n && st.Backlog == 0 {
			break
		}
		pause(t, 5*time.Millisecond)
	}
	t.Logf("all of the others are through and all of the bad ones held after %d attempts", tried.Load())
	if tried.Load() > n {
		t.Errorf("%d attempts at a channel that fails: its messages are not set aside untried", tried.Load())
	}
	sick.Store(false)
	_, err := s.RetryHeld(ctx, "", "")
	must(t, err)
	published(t, s)
	cancel()
	must(t, <-ended)
	all, err := counts(t.Context(), s.Pool(), counter)
	must(t, err)
	l.compare(t, all, 0)
}

// The database is away: a few lines in the log, however long it takes, and
// everything comes when it is back.
func TestRelay_says_little_while_the_database_is_away(t *testing.T) {
	t.Parallel()
	url, dir := server(t), t.TempDir()
	direct, _ := opened(t, url, dir, pgstore.Options{})
	proxy := servers.NewProxy(t, strings.Split(strings.Split(url, "@")[1], "/")[0])
	s, _ := opened(t, proxy.URL(url), dir, pgstore.Options{Timeout: 2 * time.Second})
	l := newRecorder()
	said := &logLines{}
	svc := newStub(1 << 60)
	svc.take, svc.log = l.take, slog.New(said)
	box := outbox.New(svc, s, outbox.Options{Lease: 5 * time.Second, Poll: 20 * time.Millisecond, CleanupInterval: 50 * time.Millisecond})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- svc.component.Run(ctx) }()
	put := func(from int) {
		t.Helper()
		for i := from; i < from+20; i++ {
			tx, err := direct.Begin(ctx)
			must(t, err)
			must(t, direct.Commit(ctx, tx, store.Writes{Messages: []*driver.Message{{ID: fmt.Sprint(i), Channel: "stock", Source: "catalog", Type: "t.v1"}}}))
		}
	}
	put(0)
	published(t, direct)
	trouble := func() string {
		st, _ := box.Stats(ctx) // the database is away; what the relay says is not in it
		return st.Trouble
	}
	before := said.total.Load()
	proxy.Cut()
	for trouble() == "" {
		pause(t, 5*time.Millisecond)
	}
	put(20)
	pause(t, 3*time.Second) // dozens of attempts
	away := said.total.Load() - before
	proxy.Heal()
	published(t, direct)
	for trouble() != "" {
		pause(t, 5*time.Millisecond)
	}
	cancel()
	must(t, <-ended)
	if l.len() != 40 {
		t.Errorf("%d messages published, want 40", l.len())
	}
	if away == 0 || away > 12 {
		t.Errorf("%d lines while the database was away: %v", away, said.text())
	}
	t.Logf("%d lines while the database was away, %d in all", away, said.total.Load())
}

// logLines counts and keeps log lines.
type logLines struct {
	slog.Handler // nil: what is not here is not called
	total        atomic.Int64
	mu           sync.Mutex
	lines        []string
}

func (c *logLines) Enabled(context.Context, slog.Level) bool { return true }
func (c *logLines) WithAttrs([]slog.Attr) slog.Handler       { return c }
func (c *logLines) WithGroup(string) slog.Handler            { return c }
func (c *logLines) Handle(_ context.Context, r slog.Record) error {
	c.total.Add(1)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lines = append(c.lines, r.Message)
	return nil
}

func (c *logLines) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	text, _ := json.Marshal(c.lines) // strings always encode
	return string(text)
}
