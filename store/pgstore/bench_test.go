package pgstore_test

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/pgstore"
)

// beside runs raw SQL and the store by turns, in this run and on this server,
// and reports the medians and their ratio. Each returns operations a second.
func beside(b *testing.B, unit string, raw, ours func() float64) {
	b.Helper()
	var r, o []float64
	raw() // warm up
	ours()
	for range 5 {
		r, o = append(r, raw()), append(o, ours())
	}
	slices.Sort(r)
	slices.Sort(o)
	for b.Loop() { // the rounds are counted here
	}
	b.ReportMetric(r[2], "raw-"+unit)
	b.ReportMetric(o[2], unit)
	b.ReportMetric(o[2]/r[2], "ratio")
	b.ReportMetric(0, "ns/op")
}

func benchStore(b *testing.B, opts ...pgstore.Options) *pgstore.Store {
	b.Helper()
	o := pgstore.Options{}
	if len(opts) > 0 {
		o = opts[0]
	}
	o.Schema = schema(b.TempDir())
	s, err := pgstore.Open(b.Context(), server(b), o)
	must(b, err)
	b.Cleanup(func() {
		_, err := s.Pool().Exec(context.Background(), `DROP SCHEMA `+o.Schema+` CASCADE`)
		must(b, err)
		must(b, s.Close())
	})
	_, err = s.Pool().Exec(b.Context(), `SET synchronous_commit = on;
		CREATE TABLE `+o.Schema+`.counter (key text PRIMARY KEY, n bigint NOT NULL);
		CREATE TABLE `+o.Schema+`.raw (seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, id text, channel text, key text, headers text, body bytea, written timestamptz DEFAULT now());
		CREATE TABLE `+o.Schema+`.raw_token (token text PRIMARY KEY, at timestamptz DEFAULT now());
		CREATE TABLE `+o.Schema+`.raw_inbox (grp text, handler text, source text, id text, state text, since timestamptz, PRIMARY KEY (grp, handler, source, id));
		CREATE INDEX ON `+o.Schema+`.raw_inbox (since) WHERE state = 'handled'`)
	must(b, err)
	return s
}

func benchMessage(i int) *driver.Message {
	return &driver.Message{
		ID: dovetail.NewID(), Channel: "stock", Key: fmt.Sprintf("key-%d", i%1000), Source: "catalog", Type: "catalog.counted.v1",
		Time: time.Now().UTC(), ContentType: "application/json", CorrelationID: "0199a0c4-0000-7000-8000-000000000000", Body: make([]byte, 1024),
	}
}

// parallel runs f n times by w workers and returns how often a second.
func parallel(b *testing.B, w, n int, f func(i int) error) float64 {
	b.Helper()
	began := time.Now()
	var next atomic.Int64
	var wg sync.WaitGroup
	for range w {
		wg.Go(func() {
			for {
				i := int(next.Add(1))
				if i > n {
					return
				}
				if err := f(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	return float64(n) / time.Since(began).Seconds()
}

// A transaction that counts and publishes, as one would write it by hand with
// pgx – message, token, pipelined commit – and with Do.
func BenchmarkWrite(b *testing.B) {
	for _, writers := range []int{1, 16} {
		b.Run(fmt.Sprintf("writers=%d", writers), func(b *testing.B) {
			s := benchStore(b, pgstore.Options{Notify: time.Hour})
			sch := schemaOf(b, s)
			svc := newStub(1 << 60)
			box := outbox.New(svc, s)
			ctx := b.Context()
			n := 600 * min(writers, 5)
			count := countSQL(sch + ".counter")
			raw := func() float64 {
				return parallel(b, writers, n, func(i int) error {
					conn, err := s.Pool().Acquire(ctx)
					if err != nil {
						return err
					}
					defer conn.Release()
					tx, err := conn.Begin(ctx)
					if err != nil {
						return err
					}
					var c int64
					if err := tx.QueryRow(ctx, count, fmt.Sprint("raw-", i%1000)).Scan(&c); err != nil {
						return err
					}
					m := benchMessage(i)
					text, err := store.AppendHeaders(nil, m)
					if err != nil {
						return err
					}
					batch := &pgx.Batch{}
					batch.Queue(`INSERT INTO `+sch+`.raw (id, channel, key, headers, body) VALUES ($1, $2, $3, $4, $5)`, m.ID, m.Channel, m.Key, string(text), m.Body)
					batch.Queue(`INSERT INTO `+sch+`.raw_token VALUES ($1)`, dovetail.NewID())
					batch.Queue(`commit`)
					return tx.SendBatch(ctx, batch).Close()
				})
			}
			ours := func() float64 {
				return parallel(b, writers, n, func(i int) error {
					return box.Do(ctx, func(ctx context.Context, tx pgx.Tx, out dovetail.Sender) error {
						var c int64
						if err := tx.QueryRow(ctx, count, fmt.Sprint("our-", i%1000)).Scan(&c); err != nil {
							return err
						}
						return out.Send(ctx, []*driver.Message{benchMessage(i)})
					})
				})
			}
			beside(b, "tx/s", raw, ours)
		})
	}
}

func schemaOf(b testing.TB, s *pgstore.Store) string {
	b.Helper()
	var name string
	must(b, s.Pool().QueryRow(b.Context(), `SELECT nspname FROM pg_namespace WHERE $1 LIKE '%"' || nspname || '".%' LIMIT 1`, s.Migrations()[0].SQL).Scan(&name))
	return name
}

func fill(b testing.TB, s *pgstore.Store, n int) {
	b.Helper()
	for i := 0; i < n; i += 1000 {
		tx, err := s.Begin(b.Context())
		must(b, err)
		ms := make([]*driver.Message, min(1000, n-i))
		for k := range ms {
			ms[k] = benchMessage(i + k)
		}
		must(b, s.Commit(b.Context(), tx, store.Writes{Messages: ms}))
	}
}

// A backlog read by hand, 500 rows at a time with a cursor that is written down,
// and by the relay, with a broker that confirms at once.
func BenchmarkDrain(b *testing.B) {
	s := benchStore(b)
	sch := schemaOf(b, s)
	ctx := b.Context()
	const n = 50_000
	fill(b, s, n)
	_, err := s.Pool().Exec(ctx, `INSERT INTO `+sch+`.raw (id, channel, key, headers, body) SELECT id, channel, key, headers, body FROM `+sch+`.dovetail_outbox ORDER BY seq;
		CREATE TABLE `+sch+`.raw_cursor (seq bigint); INSERT INTO `+sch+`.raw_cursor VALUES (0); ANALYZE `+sch+`.raw; ANALYZE `+sch+`.dovetail_outbox`)
	must(b, err)
	raw := func() float64 {
		began := time.Now()
		var last int64
		for got := 1; got > 0; {
			rows, err := s.Pool().Query(ctx, `SELECT seq, id, channel, key, headers, body FROM `+sch+`.raw WHERE seq > $1 ORDER BY seq LIMIT 500`, last)
			must(b, err)
			got = 0
			for rows.Next() {
				var id, channel, key, headers string
				var body []byte
				must(b, rows.Scan(&last, &id, &channel, &key, &headers, &body))
				got++
			}
			must(b, rows.Err())
			_, err = s.Pool().Exec(ctx, `UPDATE `+sch+`.raw_cursor SET seq = $1`, last)
			must(b, err)
		}
		return n / time.Since(began).Seconds()
	}
	ours := func() float64 {
		t, err := store.Lead(ctx, s, 0, dovetail.NewID(), time.Minute)
		must(b, err)
		_, err = s.Resume(ctx, t, "catalog")
		must(b, err)
		_, err = s.Rewind(ctx, t, "again")
		must(b, err)
		must(b, s.Resign(ctx, t.Lease))
		svc := newStub(n)
		outbox.New(svc, s, outbox.Options{Retention: time.Hour})
		run, cancel := context.WithCancel(ctx)
		ended := make(chan error)
		began := time.Now()
		go func() { ended <- svc.component.Run(run) }()
		<-svc.done
		took := time.Since(began)
		cancel()
		must(b, <-ended)
		return n / took.Seconds()
	}
	beside(b, "messages/s", raw, ours)
}

// Batches of 500 new messages that are noted as handled.
func BenchmarkInbox(b *testing.B) {
	s := benchStore(b)
	sch := schemaOf(b, s)
	ctx := b.Context()
	const size, batches = 500, 20
	entries := func() []store.Entry {
		all := make([]store.Entry, size)
		for i := range all {
			all[i] = store.Entry{Key: store.Key{Group: "shop", Handler: "ordering.order-placed.v1", Source: "ordering", ID: dovetail.NewID()}, Since: time.Now()}
		}
		return all
	}
	raw := func() float64 {
		return size * parallel(b, 1, batches, func(int) error {
			tx, err := s.Pool().Begin(ctx)
			if err != nil {
				return err
			}
			ids := make([]string, 0, size)
			for _, e := range entries() {
				ids = append(ids, e.ID)
			}
			if _, err := tx.Exec(ctx, `INSERT INTO `+sch+`.raw_inbox SELECT $1, $2, $3, id, 'handled', now() FROM unnest($4::text[]) id ON CONFLICT DO NOTHING`,
				"shop", "ordering.order-placed.v1", "ordering", ids); err != nil {
				return err
			}
			return tx.Commit(ctx)
		})
	}
	ours := func() float64 {
		return size * parallel(b, 1, batches, func(int) error {
			tx, err := s.Begin(ctx)
			if err != nil {
				return err
			}
			if _, err := s.Insert(ctx, tx, entries()); err != nil {
				return err
			}
			return s.Commit(ctx, tx, store.Writes{})
		})
	}
	beside(b, "messages/s", raw, ours)
}

// Sixteen writers flat out and the relay beside them: what it delivers while they
// write, and how long after its commit a message is handed to the broker.
func BenchmarkWriteAndRelay(b *testing.B) {
	s := benchStore(b)
	svc := newStub(1 << 60)
	var mu sync.Mutex
	committed, sent := map[string]time.Time{}, map[string]time.Time{}
	svc.take = func(ms []*driver.Message) {
		now := time.Now()
		mu.Lock()
		for _, m := range ms {
			sent[m.ID] = now
		}
		mu.Unlock()
	}
	box := outbox.New(svc, s)
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	go func() { ended <- svc.component.Run(ctx) }()
	n := 0
	var took time.Duration
	for b.Loop() {
		began := time.Now()
		n += 5000
		parallel(b, 16, 5000, func(i int) error {
			m := benchMessage(i)
			err := box.Do(ctx, func(ctx context.Context, tx pgx.Tx, out dovetail.Sender) error {
				return out.Send(ctx, []*driver.Message{m})
			})
			now := time.Now()
			mu.Lock()
			committed[m.ID] = now
			mu.Unlock()
			return err
		})
		took += time.Since(began)
	}
	delivered := svc.sent.Load()
	for svc.sent.Load() < int64(n) {
		pause(b, time.Millisecond)
	}
	cancel()
	must(b, <-ended)
	var lags []time.Duration
	for id, at := range committed {
		lags = append(lags, max(0, sent[id].Sub(at)))
	}
	slices.Sort(lags)
	b.ReportMetric(float64(n)/took.Seconds(), "tx/s")
	b.ReportMetric(float64(delivered)/took.Seconds(), "delivered/s")
	b.ReportMetric(float64(lags[len(lags)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(lags[len(lags)*99/100].Microseconds()), "p99-µs")
	b.ReportMetric(0, "ns/op")
}

// How long after its commit a message is handed to the broker, in microseconds.
func BenchmarkCommitToSend(b *testing.B) {
	svc := newStub(1 << 60)
	svc.each = make(chan struct{}, 1)
	box := outbox.New(svc, benchStore(b))
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	go func() { ended <- svc.component.Run(ctx) }()
	var lags []time.Duration
	for i := 0; b.Loop(); i++ {
		must(b, box.Do(ctx, func(ctx context.Context, tx pgx.Tx, out dovetail.Sender) error {
			return out.Send(ctx, []*driver.Message{benchMessage(i)})
		}))
		committed := time.Now()
		<-svc.each
		lags = append(lags, time.Since(committed))
	}
	slices.Sort(lags)
	b.ReportMetric(float64(lags[len(lags)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(lags[len(lags)*99/100].Microseconds()), "p99-µs")
	cancel()
	must(b, <-ended)
}

// stub stands for a service whose broker confirms at once and counts.
type stub struct {
	stubConn
	component dovetail.Component
	log       *slog.Logger // default: none
}

type stubConn struct {
	driver.Conn // nil: the relay only sends
	sent        atomic.Int64
	until       int64
	done        chan struct{}
	each        chan struct{}           // gets one for each send, where there is one
	take        func([]*driver.Message) // likewise
	refuse      func(*driver.Message) error
}

func newStub(until int64) *stub {
	return &stub{stubConn: stubConn{until: until, done: make(chan struct{})}}
}

func (s *stub) Name() string                                     { return "catalog" }
func (s *stub) Instance() string                                 { return "test" }
func (s *stub) Provision(context.Context) error                  { return nil }
func (s *stub) Conn() driver.Conn                                { return &s.stubConn }
func (s *stub) Attach(c dovetail.Component)                      { s.component = c }
func (s *stub) Prepare(context.Context, []*driver.Message) error { return nil }

func (s *stub) Relay(ctx context.Context, ms []*driver.Message) error {
	return s.stubConn.Send(ctx, ms)
}

func (s *stubConn) Classify(err error) driver.Kind    { return driver.Classify(err) }
func (s *stubConn) Capabilities() driver.Capabilities { return driver.Capabilities{Name: "stub"} }
func (s *stub) Logger() *slog.Logger {
	if s.log != nil {
		return s.log
	}
	return slog.New(slog.DiscardHandler)
}
func (s *stubConn) Send(_ context.Context, ms []*driver.Message) error {
	if s.refuse != nil {
		var se driver.SendError
		var taken []*driver.Message
		for i, m := range ms {
			if err := s.refuse(m); err != nil {
				se.Fail(i, err, false)
				continue
			}
			taken = append(taken, m)
		}
		s.take(taken)
		return se.OrNil()
	}
	if s.take != nil {
		s.take(ms)
	}
	if n := s.sent.Add(int64(len(ms))); n >= s.until && n-int64(len(ms)) < s.until {
		close(s.done)
	}
	if s.each != nil {
		s.each <- struct{}{}
	}
	return nil
}
