package sqlitestore_test

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
	"github.com/dovetail-go/dovetail/transport/membus"
)

// stub stands for a service whose broker confirms at once and counts.
type stub struct {
	stubConn
	component dovetail.Component
}

type stubConn struct {
	driver.Conn // nil: the relay only sends
	sent        atomic.Int64
	until       int64
	done        chan struct{}
	each        chan struct{} // gets one for each send, where there is one
}

func (s *stub) Name() string                                     { return "catalog" }
func (s *stub) Instance() string                                 { return "bench" }
func (s *stub) Provision(context.Context) error                  { return nil }
func (s *stub) Conn() driver.Conn                                { return &s.stubConn }
func (s *stub) Logger() *slog.Logger                             { return slog.New(slog.DiscardHandler) }
func (s *stub) Attach(c dovetail.Component)                      { s.component = c }
func (s *stub) Prepare(context.Context, []*driver.Message) error { return nil }

func (s *stub) Relay(ctx context.Context, ms []*driver.Message) error {
	return s.stubConn.Send(ctx, ms)
}

func (s *stubConn) Classify(err error) driver.Kind    { return driver.Classify(err) }
func (s *stubConn) Capabilities() driver.Capabilities { return driver.Capabilities{Name: "stub"} }
func (s *stubConn) Send(_ context.Context, ms []*driver.Message) error {
	if n := s.sent.Add(int64(len(ms))); n >= s.until && n-int64(len(ms)) < s.until {
		close(s.done)
	}
	if s.each != nil {
		s.each <- struct{}{}
	}
	return nil
}

func benchStore(b *testing.B) *sqlitestore.Store {
	s, err := sqlitestore.Open(b.Context(), filepath.Join(b.TempDir(), "bench.db"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close() })
	if _, err := s.DB().ExecContext(b.Context(), `CREATE TABLE counter (key TEXT PRIMARY KEY, n INTEGER NOT NULL)`); err != nil {
		b.Fatal(err)
	}
	return s
}

func benchMessage(i int) *driver.Message {
	return &driver.Message{
		ID: dovetail.NewID(), Channel: "stock", Key: fmt.Sprintf("key-%d", i%1000), Source: "catalog", Type: "catalog.counted.v1",
		Time: time.Now().UTC(), ContentType: "application/json", CorrelationID: "0199a0c4-0000-7000-8000-000000000000", Body: make([]byte, 1024),
	}
}

// The same rows as Do writes, in a transaction as one would write it by hand.
func BenchmarkRawTransaction(b *testing.B) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(b.TempDir(), "raw.db")+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)&_txlock=immediate")
	if err != nil {
		b.Fatal(err)
	}
	defer db.Close()
	db.SetMaxOpenConns(1)
	ctx := b.Context()
	if _, err := db.ExecContext(ctx, `CREATE TABLE counter (key TEXT PRIMARY KEY, n INTEGER NOT NULL);
		CREATE TABLE outbox (seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT, channel TEXT, key TEXT, headers TEXT, body BLOB, written INTEGER);
		CREATE TABLE token (token TEXT PRIMARY KEY, at INTEGER) WITHOUT ROWID`); err != nil {
		b.Fatal(err)
	}
	insert, err := db.PrepareContext(ctx, `INSERT INTO outbox (id, channel, key, headers, body, written) VALUES (?, ?, ?, ?, ?, ?)`)
	if err != nil {
		b.Fatal(err)
	}
	token, err := db.PrepareContext(ctx, `INSERT INTO token VALUES (?, ?)`)
	if err != nil {
		b.Fatal(err)
	}
	for i := 0; b.Loop(); i++ {
		m := benchMessage(i)
		text, err := store.AppendHeaders(nil, m)
		if err != nil {
			b.Fatal(err)
		}
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := count(ctx, tx, "tea"); err != nil {
			b.Fatal(err)
		}
		if _, err := tx.StmtContext(ctx, insert).ExecContext(ctx, m.ID, m.Channel, m.Key, string(text), m.Body, i); err != nil {
			b.Fatal(err)
		}
		if _, err := tx.StmtContext(ctx, token).ExecContext(ctx, dovetail.NewID(), i); err != nil {
			b.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tx/s")
}

func BenchmarkDo(b *testing.B) {
	for _, relay := range []bool{false, true} {
		b.Run(fmt.Sprintf("relay=%v", relay), func(b *testing.B) {
			svc := &stub{stubConn: stubConn{until: 1 << 60}}
			box := outbox.New(svc, benchStore(b))
			if relay {
				ctx, cancel := context.WithCancel(b.Context())
				ended := make(chan error)
				go func() { ended <- svc.component.Run(ctx) }()
				defer func() { cancel(); <-ended }()
			}
			for i := 0; b.Loop(); i++ {
				err := box.Do(b.Context(), func(ctx context.Context, tx *sql.Tx, out dovetail.Sender) error {
					if _, err := count(ctx, tx, "tea"); err != nil {
						return err
					}
					return out.Send(ctx, []*driver.Message{benchMessage(i)})
				})
				if err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "tx/s")
		})
	}
}

// How fast the relay is when the broker confirms at once: messages a second.
func BenchmarkRelay(b *testing.B) {
	db := benchStore(b)
	n := 100_000
	for i := 0; i < n; i += 1000 {
		tx, err := db.Begin(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		ms := make([]*driver.Message, 1000)
		for k := range ms {
			ms[k] = benchMessage(i + k)
		}
		if err := db.Commit(b.Context(), tx, store.Writes{Messages: ms}); err != nil {
			b.Fatal(err)
		}
	}
	for b.Loop() {
		svc := &stub{stubConn: stubConn{until: int64(n), done: make(chan struct{})}}
		outbox.New(svc, db, outbox.Options{Retention: time.Hour})
		ctx, cancel := context.WithCancel(b.Context())
		ended := make(chan error)
		go func() { ended <- svc.component.Run(ctx) }()
		<-svc.done
		cancel()
		if err := <-ended; err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if _, err := db.DB().ExecContext(b.Context(), `UPDATE dovetail_cursor SET seq = 0`); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}

var counted = dovetail.NewEvent[item]("catalog.counted")

// Events through a service on a broker in memory to handlers with an inbox, one
// transaction each and in batches, in messages a second.
func BenchmarkInboxHandler(b *testing.B) {
	for _, batch := range []int{1, 500} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			db := benchStore(b)
			bus, err := membus.New(membus.Options{})
			if err != nil {
				b.Fatal(err)
			}
			svc := dovetail.New("catalog", bus.Connect(), dovetail.Options{Window: 2000, Logger: slog.New(slog.DiscardHandler)})
			box := outbox.New(svc, db)
			svc.Declare(counted)
			n := 4000 * min(batch, 10)
			var left atomic.Int64
			done := make(chan struct{})
			handle := func(ctx context.Context, tx *sql.Tx, out dovetail.Sender, i item) error {
				if left.Add(-1) == 0 {
					done <- struct{}{}
				}
				return nil
			}
			if batch == 1 {
				counted.Subscribe(svc, inbox.Once(box, handle))
			} else {
				counted.SubscribeBatch(svc, inbox.Batch(box, handle), dovetail.BatchSize(batch), dovetail.Concurrency(2))
			}
			ctx, cancel := context.WithCancel(b.Context())
			ended := make(chan error)
			go func() { ended <- svc.Run(ctx) }()
			<-svc.Ready()
			items := make([]item, 1000)
			for b.Loop() {
				left.Store(int64(n))
				for range n / len(items) {
					if err := counted.PublishAll(ctx, svc, items); err != nil {
						b.Fatal(err)
					}
				}
				<-done
			}
			b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
			cancel()
			if err := <-ended; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// How long after its commit a message is handed to the broker.
func BenchmarkCommitToSend(b *testing.B) {
	svc := &stub{stubConn: stubConn{until: 1 << 60, each: make(chan struct{}, 1)}}
	box := outbox.New(svc, benchStore(b))
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error)
	go func() { ended <- svc.component.Run(ctx) }()
	var total time.Duration
	for i := 0; b.Loop(); i++ {
		err := box.Do(ctx, func(ctx context.Context, tx *sql.Tx, out dovetail.Sender) error {
			return out.Send(ctx, []*driver.Message{benchMessage(i)})
		})
		if err != nil {
			b.Fatal(err)
		}
		committed := time.Now()
		<-svc.each
		total += time.Since(committed)
	}
	b.ReportMetric(float64(total.Microseconds())/float64(b.N), "µs/lag")
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

// Entering batches of 500 new messages, in messages a second.
func BenchmarkInboxBatch(b *testing.B) {
	db := benchStore(b)
	const size = 500
	for b.Loop() {
		entries := make([]store.Entry, size)
		for i := range entries {
			entries[i] = store.Entry{Key: store.Key{Group: "shop", Handler: "ordering.order-placed.v1", Source: "ordering", ID: dovetail.NewID()}, Since: time.Now()}
		}
		tx, err := db.Begin(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		if _, err := db.Insert(b.Context(), tx, entries); err != nil {
			b.Fatal(err)
		}
		if err := db.Commit(b.Context(), tx, store.Writes{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(size*float64(b.N)/b.Elapsed().Seconds(), "messages/s")
}
