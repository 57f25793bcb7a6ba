package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/internal/leak"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/memstore"
)

func TestMain(m *testing.M) { os.Exit(leak.Main(m)) }

// broker stands for a transport: it keeps what it is sent and fails as told.
type broker struct {
	driver.Conn // nil: the relay only sends
	caps        driver.Capabilities
	fail        func(m *driver.Message) (err error, unknown bool) // of one message
	away        func() error                                      // of a whole send

	mu    sync.Mutex
	got   []*driver.Message
	sends [][]string
}

func (b *broker) Capabilities() driver.Capabilities { return b.caps }
func (b *broker) Classify(err error) driver.Kind    { return driver.Classify(err) }

func (b *broker) Send(ctx context.Context, ms []*driver.Message) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	var ids []string
	for _, m := range ms {
		ids = append(ids, m.ID)
	}
	b.sends = append(b.sends, ids)
	if b.away != nil {
		if err := b.away(); err != nil {
			return err
		}
	}
	failed := &driver.SendError{}
	stopped := map[string]bool{} // keys of which nothing more of this batch is stored
	for i, m := range ms {
		lane := m.Channel + "/" + m.Key
		if b.caps.OrderedBatch && m.Key != "" && stopped[lane] {
			failed.Fail(i, driver.ErrRetryable, false)
			continue
		}
		if b.fail != nil {
			err, unknown := b.fail(m)
			if err != nil {
				failed.Fail(i, err, unknown)
				stopped[lane] = !errors.Is(err, driver.ErrTooLarge)
				if !unknown {
					continue
				}
			}
		}
		b.got = append(b.got, m.Clone())
	}
	return failed.OrNil()
}

// set changes how the broker fails.
func (b *broker) set(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f()
}

func (b *broker) ids() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := []string{}
	for _, m := range b.got {
		all = append(all, m.ID)
	}
	return all
}

// service stands for a *dovetail.Service.
type service struct {
	name       string
	conn       driver.Conn
	log        *slog.Logger
	components []dovetail.Component
}

func (s *service) Name() string                    { return s.name }
func (s *service) Instance() string                { return "one" }
func (s *service) Conn() driver.Conn               { return s.conn }
func (s *service) Logger() *slog.Logger            { return s.log }
func (s *service) Provision(context.Context) error { return nil }
func (s *service) Attach(c dovetail.Component)     { s.components = append(s.components, c) }
func (s *service) Relay(ctx context.Context, ms []*driver.Message) error {
	return s.conn.Send(ctx, ms)
}

func (s *service) Prepare(_ context.Context, ms []*driver.Message) error {
	for _, m := range ms {
		if m.Type == "" {
			return fmt.Errorf("%w: no type", dovetail.ErrInvalid)
		}
		m.Source = s.name
	}
	return nil
}

// logs counts log records.
type logs struct {
	slog.Handler
	mu      sync.Mutex
	records []string
}

func (l *logs) Enabled(context.Context, slog.Level) bool { return true }
func (l *logs) WithAttrs([]slog.Attr) slog.Handler       { return l }
func (l *logs) Handle(_ context.Context, r slog.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.records = append(l.records, r.Message)
	return nil
}

func (l *logs) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.records)
}

// bench is a box on a memstore with its broker, in a synctest bubble.
type bench struct {
	*testing.T
	broker *broker
	svc    *service
	db     *memstore.Store
	box    *outbox.Box[*memstore.Tx]
	logs   *logs
	stop   func() // ends the relays
}

// within runs a test in a bubble, where waiting takes no time, with a running
// relay.
func within(t *testing.T, opts outbox.Options, test func(*bench)) {
	t.Helper()
	idle(t, opts, func(b *bench) {
		b.start()
		defer b.stop()
		test(b)
	})
}

// idle is within, but nothing runs yet.
func idle(t *testing.T, opts outbox.Options, test func(*bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bench{T: t, broker: &broker{caps: driver.Capabilities{Name: "stub"}}, db: memstore.New(), logs: &logs{}}
		b.svc = &service{name: "catalog", conn: b.broker, log: slog.New(b.logs)}
		b.box = outbox.New(b.svc, b.db, opts)
		test(b)
	})
}

// benchOn is a bench on a store that does something of its own over db.
func benchOn(t *testing.T, db *memstore.Store, own store.DB[*memstore.Tx]) *bench {
	b := &bench{T: t, broker: &broker{caps: driver.Capabilities{Name: "stub"}}, db: db, logs: &logs{}}
	b.svc = &service{name: "catalog", conn: b.broker, log: discard()}
	b.box = outbox.New(b.svc, own)
	return b
}

// start runs the components that are attached by now.
func (b *bench) start() {
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	for _, c := range b.svc.components {
		wg.Go(func() {
			if err := c.Run(ctx); err != nil {
				b.Errorf("run: %v", err)
			}
		})
	}
	b.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
}

func message(id, channel, key string) *driver.Message {
	return &driver.Message{ID: id, Channel: channel, Key: key, Type: "catalog.counted.v1", Body: []byte(id)}
}

// publish commits messages of one channel and key with these ids.
func (b *bench) publish(channel, key string, ids ...string) {
	b.Helper()
	var ms []*driver.Message
	for _, id := range ids {
		ms = append(ms, message(id, channel, key))
	}
	b.must(b.box.Do(b.Context(), func(ctx context.Context, tx *memstore.Tx, out dovetail.Sender) error { return out.Send(ctx, ms) }))
}

func (b *bench) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// want waits for a time and compares what the broker got.
func (b *bench) want(after time.Duration, ids ...string) {
	b.Helper()
	b.pass(after)
	if got := b.broker.ids(); !slices.Equal(got, ids) && len(got)+len(ids) > 0 {
		b.Fatalf("the broker got %v, want %v", got, ids)
	}
}

// pass lets time pass in the bubble.
func (b *bench) pass(d time.Duration) {
	if d > 0 {
		<-time.After(d)
	}
	synctest.Wait()
}

func (b *bench) stats() outbox.Stats {
	b.Helper()
	st, err := b.box.Stats(b.Context())
	b.must(err)
	return st
}

// stuck is what the service is told of the box.
func (b *bench) stuck() []dovetail.Stuck { return b.svc.components[0].(dovetail.Troubled).Stuck() }

// faulty is a store whose calls can be made to fail.
type faulty struct {
	*memstore.Store
	mu     sync.Mutex
	err    error                                                            // of everything the relay does
	commit func(ctx context.Context, tx *memstore.Tx, w store.Writes) error // instead of Commit
	resErr error                                                            // of Resolve
	along  bool                                                             // Next moves the cursor
	moved  [2]int                                                           // how often Next and Advance moved it
}

var errDown = errors.New("database is down")

func (f *faulty) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *faulty) down() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

func (f *faulty) Commit(ctx context.Context, tx *memstore.Tx, w store.Writes) error {
	if f.commit != nil {
		return f.commit(ctx, tx, w)
	}
	return f.Store.Commit(ctx, tx, w)
}

func (f *faulty) Resolve(ctx context.Context, token string) (bool, error) {
	if f.resErr != nil {
		return false, f.resErr
	}
	return f.Store.Resolve(ctx, token)
}

func (f *faulty) Acquire(ctx context.Context, name, holder string, ttl time.Duration) (store.Lease, error) {
	if err := f.down(); err != nil {
		return store.Lease{}, err
	}
	return f.Store.Acquire(ctx, name, holder, ttl)
}

func (f *faulty) Next(ctx context.Context, t store.Term, after, done store.Position, max store.Limit) (store.Page, error) {
	if err := f.down(); err != nil {
		return store.Page{}, err
	}
	page, err := f.Store.Next(ctx, t, after, done, max)
	if f.along && len(page.Rows) > 0 && done != (store.Position{}) {
		err = errors.Join(err, f.Store.Advance(ctx, t, store.Progress{To: done}))
		page.Advanced = true
		f.set(func() { f.moved[0]++ })
	}
	return page, err
}

func (f *faulty) Advance(ctx context.Context, t store.Term, p store.Progress) error {
	if err := f.down(); err != nil {
		return err
	}
	f.set(func() { f.moved[1]++ })
	return f.Store.Advance(ctx, t, p)
}

func (f *faulty) Promote(ctx context.Context, t store.Term, max int) (int, time.Time, error) {
	if err := f.down(); err != nil {
		return 0, time.Time{}, err
	}
	return f.Store.Promote(ctx, t, max)
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }
