package storetest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/internal/crash"
	"github.com/dovetail-go/dovetail/outbox"
)

// jobVariable tells a child process what to do: a job as JSON.
const jobVariable = "DOVETAIL_STORETEST_JOB"

// job is what a child process does until it kills itself.
type job struct {
	Dir   string // of the database and of the file that stands for a broker
	Point string // where it dies
	Times int    // when it passes there for the so manieth time
	Seed  uint64
}

func childJob() *job {
	text := os.Getenv(jobVariable)
	if text == "" {
		return nil
	}
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		panic(err) // it is our own
	}
	return &j
}

// crash kills a writing and publishing process at every named point, starts it
// again on the same database, and in the end compares what was committed with
// what was published.
func (s suite[Tx]) crash(e *env[Tx]) {
	if !e.h.Durable {
		e.Skip("declared gap: the store is not durable")
	}
	if j := childJob(); j != nil {
		e.die(*j)
		return
	}
	e.close()
	points := []string{"do.begun", "do.done", "do.committed", "relay.sent", "relay.advanced", "relay.retired", "relay.promoted"}
	for i, point := range points {
		for _, times := range []int{1, 12} {
			if times > 1 && (point == "relay.retired" || point == "relay.promoted") {
				continue
			}
			e.child(job{Dir: e.dir, Point: point, Times: times, Seed: uint64(10*i + times)})
		}
	}
	e.open()
	e.publishRest()
	e.compare()
}

// child runs a job in a process of its own, which must end by killing itself.
func (e *env[Tx]) child(j job) {
	e.Helper()
	text, err := json.Marshal(j)
	e.must(err)
	exe, err := os.Executable()
	e.must(err)
	cmd := exec.CommandContext(e.ctx, exe, "-test.run=^"+strings.ReplaceAll(e.Name(), "/", "$/^")+"$", "-test.timeout=60s")
	cmd.Env = append(os.Environ(), jobVariable+"="+string(text))
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		e.Fatalf("child for %s: %v, want it killed\n%s", j.Point, err, out)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		e.Fatalf("child for %s: %v, want it killed\n%s", j.Point, err, out)
	}
}

// die writes and publishes until the process dies at the job's point.
func (e *env[Tx]) die(j job) {
	var passed atomic.Int64
	crash.At(func(point string) {
		if point == j.Point && passed.Add(1) == int64(j.Times) {
			if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
				panic(err)
			}
			select {} // the signal is on its way
		}
	})
	svc := newService(e.T, e.dir)
	box := outbox.New(svc, e.DB, outbox.Options{Lease: 100 * time.Millisecond, Tidy: 20 * time.Millisecond, Poll: 5 * time.Millisecond, Advance: 2 * time.Millisecond, Batch: 16})
	ctx, cancel := context.WithTimeout(e.ctx, 30*time.Second)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() { e.report(svc.component.Run(ctx)) })
	for w := range 3 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(j.Seed, uint64(w)))
			for ctx.Err() == nil {
				e.report(e.countAndSend(ctx, box, r))
			}
		})
	}
	wg.Wait()
	e.Errorf("point %s was not passed %d times", j.Point, j.Times)
}

func (e *env[Tx]) report(err error) {
	if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, errNot) {
		e.Error(err)
	}
}

var errNot = errors.New("rolled back on purpose")

// countAndSend counts a key up and publishes the number, sometimes delayed
// under another key, and sometimes rolls back.
func (e *env[Tx]) countAndSend(ctx context.Context, box *outbox.Box[Tx], r *rand.Rand) error {
	key := fmt.Sprintf("key-%d", r.IntN(5))
	delayed := r.IntN(6) == 0
	if delayed {
		key = fmt.Sprintf("late-%d", r.IntN(2))
	}
	return box.Do(ctx, func(ctx context.Context, tx Tx, out dovetail.Sender) error {
		n, err := e.Count(ctx, tx, key)
		if err != nil {
			return err
		}
		m := message(fmt.Sprintf("%s/%d", key, n), "stock", key)
		if delayed {
			m.Due = time.Now().Add(time.Duration(r.IntN(5)) * time.Millisecond)
		}
		if err := out.Send(ctx, []*driver.Message{m}); err != nil {
			return err
		}
		if r.IntN(6) == 0 {
			return errNot
		}
		return nil
	})
}

// publishRest runs a relay until nothing is left.
func (e *env[Tx]) publishRest() {
	svc := newService(e.T, e.dir)
	outbox.New(svc, e.DB, outbox.Options{Poll: 5 * time.Millisecond, Advance: time.Millisecond})
	ctx, cancel := context.WithCancel(e.ctx)
	ended := make(chan error, 1)
	go func() { ended <- svc.component.Run(ctx) }()
	for {
		st, err := e.DB.Stats(e.ctx, 0)
		e.must(err)
		if st.Backlog == 0 && st.Later == 0 && st.Held == 0 {
			break
		}
		select {
		case <-svc.conn.sent:
		case <-time.After(20 * time.Millisecond):
		case <-e.ctx.Done():
			e.Fatalf("%v: %+v", e.ctx.Err(), st)
		}
	}
	cancel()
	e.must(<-ended)
}

// compare checks that exactly the committed numbers were published, and those
// that were not delayed in the order of their keys.
func (e *env[Tx]) compare() {
	f, err := os.Open(filepath.Join(e.dir, "broker"))
	e.must(err)
	defer f.Close()
	last := map[string]int64{}
	seen := map[string]bool{}
	copies := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		id := s.Text()
		if seen[id] {
			copies++
			continue
		}
		seen[id] = true
		key, number, _ := strings.Cut(id, "/")
		var n int64
		if _, err := fmt.Sscan(number, &n); err != nil {
			e.Fatalf("id %q: %v", id, err)
		}
		if n != last[key]+1 && !strings.HasPrefix(key, "late") {
			e.Errorf("key %s: %d came after %d", key, n, last[key])
		}
		last[key] = max(last[key], n)
	}
	counts, err := e.Counts(e.ctx)
	e.must(err)
	total := int64(0)
	for key, n := range counts {
		total += n
		for i := range n {
			if id := fmt.Sprintf("%s/%d", key, i+1); !seen[id] {
				e.Errorf("%s was committed and not published", id)
			}
		}
	}
	if total != int64(len(seen)) {
		e.Errorf("%d committed, %d published", total, len(seen))
	}
	if total < 50 {
		e.Errorf("only %d transactions committed: the test shows little", total)
	}
	e.Logf("%d committed and published, %d of them again", total, copies)
}

// service stands for a *dovetail.Service; its broker is a file.
type service struct {
	conn      *fileConn
	component dovetail.Component
}

func newService(t *testing.T, dir string) *service {
	f, err := os.OpenFile(filepath.Join(dir, "broker"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return &service{conn: &fileConn{f: f, sent: make(chan struct{}, 1)}}
}

func (s *service) Name() string                    { return "catalog" }
func (s *service) Instance() string                { return "test" }
func (s *service) Prepare([]*driver.Message) error { return nil }
func (s *service) Provision(context.Context) error { return nil }
func (s *service) Conn() driver.Conn               { return s.conn }
func (s *service) Logger() *slog.Logger            { return slog.New(slog.DiscardHandler) }
func (s *service) Attach(c dovetail.Component)     { s.component = c }

// fileConn is a stub of a transport: it appends ids to a file, which outlives
// the process.
type fileConn struct {
	driver.Conn // nil: the relay only sends
	mu          sync.Mutex
	f           *os.File
	sent        chan struct{}
}

func (c *fileConn) Capabilities() driver.Capabilities { return driver.Capabilities{Name: "file"} }
func (c *fileConn) Classify(err error) driver.Kind    { return driver.Classify(err) }

func (c *fileConn) Send(_ context.Context, ms []*driver.Message) error {
	var b strings.Builder
	for _, m := range ms {
		b.WriteString(m.ID)
		b.WriteByte('\n')
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case c.sent <- struct{}{}:
	default:
	}
	_, err := c.f.WriteString(b.String())
	return err
}
