package pgstore_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
)

// recorder is what the brokers of a test were given.
type recorder struct {
	mu       sync.Mutex
	ids      []string // by first appearance
	times    map[string]int
	last     map[string]int64 // by key
	inverted []string
}

func newRecorder() *recorder { return &recorder{times: map[string]int{}, last: map[string]int64{}} }

// take notes messages whose ids are key/number.
func (l *recorder) take(ms []*driver.Message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range ms {
		l.times[m.ID]++
		if l.times[m.ID] > 1 {
			continue
		}
		l.ids = append(l.ids, m.ID)
		var n int64
		if _, err := fmt.Sscanf(m.ID, m.Key+"/%d", &n); err == nil {
			if n != l.last[m.Key]+1 {
				l.inverted = append(l.inverted, fmt.Sprintf("%s after %d", m.ID, l.last[m.Key]))
			}
			l.last[m.Key] = n
		}
	}
}

func (l *recorder) len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.ids)
}

// compare checks that what was published is what the counters say, in order, and
// that no more than a number of messages came twice.
func (l *recorder) compare(t *testing.T, counts map[string]int64, copies int) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	total, lost := 0, 0
	for key, n := range counts {
		for i := range n {
			total++
			if l.times[fmt.Sprintf("%s/%d", key, i+1)] == 0 {
				lost++
			}
		}
	}
	if lost > 0 || len(l.ids) != total {
		t.Errorf("%d committed, %d of them not published, %d published", total, lost, len(l.ids))
	}
	if len(l.inverted) > 0 {
		t.Errorf("%d out of order, the first: %s", len(l.inverted), l.inverted[0])
	}
	again := 0
	for _, n := range l.times {
		again += n - 1
	}
	if again > copies {
		t.Errorf("%d published again, want at most %d", again, copies)
	}
	t.Logf("%d committed and published, %d again", total, again)
}

// opened is a store in a schema of a test's own, and the name of its counters.
func opened(t testing.TB, url, dir string, opts pgstore.Options) (*pgstore.Store, string) {
	t.Helper()
	opts.Schema = schema(dir)
	s, err := pgstore.Open(t.Context(), url, opts)
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	makeCounter(t, s.Pool(), opts.Schema)
	return s, opts.Schema + ".counter"
}

// relaying runs the relay of a store until the test or the returned function
// ends it.
func relaying(t *testing.T, s store.DB[pgx.Tx], l *recorder, opts outbox.Options) (stop func()) {
	t.Helper()
	svc := newStub(1 << 60)
	svc.take = l.take
	outbox.New(svc, s, opts)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- svc.component.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// published waits until nothing is left to publish.
func published(t *testing.T, s *pgstore.Store) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		left := int64(0)
		for shard := range s.Shards() {
			st, err := s.Stats(ctx, shard)
			must(t, err)
			left += st.Backlog + st.Later + st.Held
		}
		if left == 0 {
			return
		}
		pause(t, 10*time.Millisecond)
	}
}

func pause(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

var errNot = errors.New("rolled back on purpose")

// business is one transaction of a writer: it counts a key up and publishes the
// number, sometimes with a part that is undone, and sometimes returns errNot.
func business(ctx context.Context, box *outbox.Box[pgx.Tx], counter string, r *rand.Rand) error {
	count := func(ctx context.Context, tx pgx.Tx, out dovetail.Sender, key string) error {
		var n int64
		if err := tx.QueryRow(ctx, countSQL(counter), key).Scan(&n); err != nil {
			return err
		}
		return out.Send(ctx, []*driver.Message{{ID: fmt.Sprintf("%s/%d", key, n), Channel: "stock", Key: key, Source: "catalog", Type: "t.v1", Body: []byte(`{}`)}})
	}
	err := box.Do(ctx, func(ctx context.Context, tx pgx.Tx, out dovetail.Sender) error {
		if err := count(ctx, tx, out, fmt.Sprintf("key-%d", r.IntN(24))); err != nil {
			return err
		}
		if r.IntN(5) == 0 {
			err := box.Do(ctx, func(ctx context.Context, tx pgx.Tx, out dovetail.Sender) error {
				return errors.Join(count(ctx, tx, out, fmt.Sprintf("part-%d", r.IntN(1000))), errNot)
			})
			if !errors.Is(err, errNot) {
				return err
			}
		}
		if r.IntN(10) == 0 {
			return errNot
		}
		return nil
	})
	if errors.Is(err, errNot) && !errors.Is(err, dovetail.ErrUnknownOutcome) {
		return errNot
	}
	return err
}

// prepared is a two-phase transaction, every fourth of which is rolled back.
func prepared(ctx context.Context, s *pgstore.Store, counter, key string, i int) error {
	conn, err := s.Pool().Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	var n int64
	if err := tx.QueryRow(ctx, countSQL(counter), key).Scan(&n); err != nil {
		return err
	}
	m := &driver.Message{ID: fmt.Sprintf("%s/%d", key, n), Channel: "stock", Key: key, Source: "catalog", Type: "t.v1", Body: []byte(`{}`)}
	if err := s.Write(ctx, tx, store.Writes{Messages: []*driver.Message{m}}); err != nil {
		return err
	}
	name := fmt.Sprintf("'%s/%s/%d'", counter, key, i)
	if _, err := tx.Exec(ctx, `PREPARE TRANSACTION `+name); err != nil {
		return err
	}
	end := `COMMIT PREPARED `
	if i%4 == 3 {
		end = `ROLLBACK PREPARED `
	}
	_, err = conn.Exec(ctx, end+name)
	return err
}

func TestWriters_with_rollbacks_savepoints_prepared_and_long_transactions_lose_and_invert_nothing(t *testing.T) {
	t.Parallel()
	for _, shards := range []int{1, 3} {
		t.Run(fmt.Sprintf("shards=%d", shards), func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s, counter := opened(t, server(t), dir, pgstore.Options{Shards: shards, Conns: 40})
			other, _ := opened(t, server(t), dir, pgstore.Options{})
			l := newRecorder()
			opts := outbox.Options{Lease: 30 * time.Second, CursorInterval: 20 * time.Millisecond, CleanupInterval: 300 * time.Millisecond}
			stop := relaying(t, s, l, opts)
			relaying(t, other, l, opts)
			box := outbox.New(newStub(1<<60), s, outbox.Options{NoRelay: true})
			ctx := t.Context()

			var wg sync.WaitGroup
			wg.Go(func() { // begins before all others, writes first, and commits after most
				tx, err := s.Begin(ctx)
				must(t, err)
				must(t, s.Write(ctx, tx, store.Writes{Messages: []*driver.Message{{ID: "long/1", Channel: "stock", Key: "long", Source: "catalog", Type: "t.v1"}}}))
				var n int64
				must(t, tx.QueryRow(ctx, countSQL(counter), "long").Scan(&n))
				pause(t, 2*time.Second)
				must(t, s.Commit(ctx, tx, store.Writes{}))
			})
			until := time.Now().Add(2500 * time.Millisecond)
			for w := range 2 {
				wg.Go(func() {
					for i := 0; time.Now().Before(until); i++ {
						if err := prepared(ctx, s, counter, fmt.Sprintf("prepared-%d", w), i); err != nil {
							t.Errorf("two-phase writer %d: %v", w, err)
							return
						}
					}
				})
			}
			for w := range 32 {
				wg.Go(func() {
					r := rand.New(rand.NewPCG(uint64(w), 11))
					for time.Now().Before(until) {
						if err := business(ctx, box, counter, r); err != nil && err != errNot {
							t.Errorf("writer %d: %v", w, err)
							return
						}
					}
				})
			}
			pause(t, time.Second)
			stop() // the other takes over
			wg.Wait()
			published(t, other)
			all, err := counts(ctx, s.Pool(), counter)
			must(t, err)
			l.compare(t, all, 0) // the take-over was in good order: nothing comes twice
		})
	}
}

func TestRelays_of_twenty_stores_publish_each_row_once(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, counter := opened(t, server(t), dir, pgstore.Options{})
	l := newRecorder()
	for range 20 {
		other, _ := opened(t, server(t), dir, pgstore.Options{Conns: 1})
		relaying(t, other, l, outbox.Options{Lease: 30 * time.Second, Poll: 20 * time.Millisecond})
	}
	box := outbox.New(newStub(1<<60), s, outbox.Options{NoRelay: true})
	r := rand.New(rand.NewPCG(1, 2))
	for range 300 {
		if err := business(t.Context(), box, counter, r); err != nil && err != errNot {
			t.Fatal(err)
		}
	}
	published(t, s)
	all, err := counts(t.Context(), s.Pool(), counter)
	must(t, err)
	l.compare(t, all, 0)
}
