package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

func (suite[Tx]) migrate(e *env[Tx]) {
	for i, m := range e.DB.Migrations() {
		if m.Version != i+1 || m.Name == "" || !strings.Contains(m.SQL, ";") {
			e.Errorf("migration %d: version %d, name %q, %d bytes of SQL: want versions from 1 without gaps, a name, and statements", i, m.Version, m.Name, len(m.SQL))
		}
	}
	e.put(message("1", "orders", ""))
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := e.DB.Migrate(e.ctx); err != nil {
				e.Errorf("migrate again: %v", err)
			}
		})
	}
	wg.Wait()
	e.same(ids(e.next(e.lead(), store.Position{})), []string{"1"}, "outbox after migrating again")
}

func (suite[Tx]) commit(e *env[Tx]) {
	woken := e.DB.Signal().Wait()
	tx := e.begin()
	n, err := e.Count(e.ctx, tx, "tea")
	e.must(err)
	e.must(e.DB.Commit(e.ctx, tx, store.Writes{Messages: []*driver.Message{message(fmt.Sprint("tea/", n), "stock", "tea")}}))
	select {
	case <-woken:
	default:
		e.Error("the commit did not notify the signal")
	}
	counts, err := e.Counts(e.ctx)
	e.must(err)
	e.same(counts, map[string]int64{"tea": 1}, "counters")
	e.same(ids(e.next(e.lead(), store.Position{})), []string{"tea/1"}, "outbox")
	if err := e.DB.Commit(e.ctx, tx, store.Writes{}); err == nil {
		e.Error("a second commit of a transaction succeeded")
	}
	e.must(e.DB.Rollback(e.ctx, tx)) // after the end it does nothing
}

func (suite[Tx]) rollback(e *env[Tx]) {
	tx := e.begin()
	_, err := e.Count(e.ctx, tx, "tea")
	e.must(err)
	e.must(e.DB.Write(e.ctx, tx, store.Writes{Messages: messages(3, "stock", "tea")}))
	e.must(e.DB.Rollback(e.ctx, tx))

	ctx, cancel := context.WithCancel(e.ctx)
	tx, err = e.DB.Begin(ctx)
	e.must(err)
	_, err = e.Count(ctx, tx, "tea")
	e.must(err)
	cancel()
	if err := e.DB.Commit(ctx, tx, store.Writes{Messages: messages(3, "stock", "tea")}); err == nil {
		e.Error("a commit after its context ended succeeded")
	}
	counts, err := e.Counts(e.ctx)
	e.must(err)
	e.same(counts, map[string]int64{}, "counters")
	e.same(ids(e.next(e.lead(), store.Position{})), []string{}, "outbox")
	e.put(message("1", "stock", "tea")) // the connection is still good
}

func (suite[Tx]) savepoint(e *env[Tx]) {
	tx := e.begin()
	count := func(key string) {
		e.Helper()
		_, err := e.Count(e.ctx, tx, key)
		e.must(err)
	}
	count("kept")
	e.must(e.DB.Savepoint(e.ctx, tx, "one"))
	count("undone")
	e.must(e.DB.Write(e.ctx, tx, store.Writes{Messages: messages(2, "stock", "undone")}))
	e.must(e.DB.Savepoint(e.ctx, tx, "two"))
	count("undone")
	e.must(e.DB.Release(e.ctx, tx, "two"))
	e.must(e.DB.RollbackTo(e.ctx, tx, "one"))
	count("kept") // the savepoint is still there
	e.must(e.DB.RollbackTo(e.ctx, tx, "one"))
	count("kept")
	e.must(e.DB.Release(e.ctx, tx, "one"))
	e.must(e.DB.Commit(e.ctx, tx, store.Writes{Messages: messages(1, "stock", "kept")}))
	counts, err := e.Counts(e.ctx)
	e.must(err)
	e.same(counts, map[string]int64{"kept": 2}, "counters")
	e.same(ids(e.next(e.lead(), store.Position{})), []string{"kept-000"}, "outbox")
}

func (suite[Tx]) write(e *env[Tx]) {
	tx := e.begin()
	e.must(e.DB.Write(e.ctx, tx, store.Writes{Messages: messages(2, "stock", "a")}))
	e.must(e.DB.Commit(e.ctx, tx, store.Writes{Messages: messages(1, "stock", "b")}))
	e.same(ids(e.next(e.lead(), store.Position{})), []string{"a-000", "a-001", "b-000"}, "outbox")
}

func (suite[Tx]) roundtrip(e *env[Tx]) {
	big := bytes.Repeat([]byte{0, 255, '\n', 'x'}, 300_000)
	all := []*driver.Message{
		message("plain", "orders", "k"),
		{ID: "all", Channel: "orders", Key: "schlüssel 鍵 '\"%;--", Source: "catalog", Type: "a.b.v2",
			Time: time.Date(2026, 11, 2, 3, 4, 5, 678_901_000, time.UTC), ContentType: "application/json; charset=utf-8",
			CorrelationID: "c", CausationID: "d", ReplyTo: "catalog.replies.1", Timeout: 1500 * time.Millisecond,
			Due: time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC), Transient: true,
			Headers: driver.Headers{{Name: "Trace", Value: "a: b: c"}, {Name: "twice", Value: "1"}, {Name: "twice", Value: ""}, {Name: "source", Value: "grüße 🙂"}},
			Body:    []byte("körper\x00\xff")},
		{ID: "bare", Channel: "orders"},
		{ID: "big", Channel: "orders", Source: "catalog", Type: "a.b.v1", Body: big},
	}
	want := make([]*driver.Message, len(all))
	for i, m := range all {
		want[i] = m.Clone()
	}
	e.put(all...)
	rows := e.next(e.lead(), store.Position{})
	e.same(ids(rows), []string{"plain", "all", "bare", "big"}, "outbox")
	for i, r := range rows {
		got, want := *r.Message, *want[i]
		if len(got.Headers) == 0 && len(want.Headers) == 0 {
			got.Headers, want.Headers = nil, nil
		}
		if !bytes.Equal(got.Body, want.Body) {
			e.Errorf("message %s: body of %d bytes is not what was written (%d bytes)", want.ID, len(got.Body), len(want.Body))
		}
		got.Body, want.Body = nil, nil
		if !reflect.DeepEqual(got, want) {
			e.Errorf("message %s:\n got %+v\nwant %+v", want.ID, got, want)
		}
	}
}

func (suite[Tx]) lineBreak(e *env[Tx]) {
	m := message("1", "orders", "")
	m.Headers = driver.Headers{{Name: "evil", Value: "a\nsource: somebody"}}
	if err := e.DB.Commit(e.ctx, e.begin(), store.Writes{Messages: []*driver.Message{m}}); err == nil {
		e.Error("a header with a line break was written")
	}
	e.same(ids(e.next(e.lead(), store.Position{})), []string{}, "outbox")
}

func (suite[Tx]) limits(e *env[Tx]) {
	ms := messages(100, "orders", "k")
	var want []string
	for _, m := range ms {
		m.Body = make([]byte, 1000)
		want = append(want, m.ID)
	}
	e.put(ms...)
	t := e.lead()
	for _, c := range []struct {
		limit store.Limit
		want  int
	}{
		{store.Limit{Rows: 7, Bytes: 1 << 20}, 7},
		{store.Limit{Rows: 100, Bytes: 4500}, 5},
		{store.Limit{Rows: 100, Bytes: 1}, 1},
	} {
		var got []string
		var after store.Position
		for {
			page, err := e.DB.Next(e.ctx, t, after, store.Position{}, c.limit)
			e.must(err)
			if len(page.Rows) == 0 {
				break
			}
			if len(page.Rows) > c.want {
				e.Fatalf("limit %+v: %d rows, want at most %d", c.limit, len(page.Rows), c.want)
			}
			got = append(got, ids(page.Rows)...)
			after = page.Rows[len(page.Rows)-1].Position
			if len(got) >= len(want) {
				break
			}
		}
		e.same(got, want, fmt.Sprintf("rows within %+v", c.limit))
		if _, err := e.DB.Rewind(e.ctx, t, "again"); err != nil {
			e.Fatal(err)
		}
	}
}

// writers has transactions that count, dawdle and sometimes roll back, while a
// relay reads. Everything committed must come, once, in the order of its key.
func (suite[Tx]) writers(e *env[Tx]) {
	const writers, each, keys = 12, 25, 4
	done := make(chan struct{})
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(uint64(w), 7))
			for i := range each {
				err := e.work(r, i)
				for e.again(err) {
					err = e.work(r, i)
				}
				if err != nil {
					e.Errorf("writer %d: %v", w, err)
					return
				}
			}
		})
	}
	go func() { wg.Wait(); close(done) }()
	t := e.lead()
	last := map[string]int64{}
	read := func(after store.Position) store.Position {
		page, err := e.DB.Next(e.ctx, t, after, store.Position{}, store.Limit{Rows: 17, Bytes: 1 << 20})
		e.must(err)
		for _, r := range page.Rows {
			var n int64
			if _, err := fmt.Sscanf(r.Message.ID, r.Message.Key+"/%d", &n); err != nil {
				e.Fatalf("id %q: %v", r.Message.ID, err)
			}
			if n != last[r.Message.Key]+1 {
				e.Fatalf("key %s: %d came after %d", r.Message.Key, n, last[r.Message.Key])
			}
			last[r.Message.Key] = n
			after = r.Position
		}
		if len(page.Rows) > 0 {
			e.must(e.DB.Advance(e.ctx, t, store.Progress{To: after}))
		}
		return after
	}
	var after store.Position
	for ended := false; ; {
		before := after
		if after = read(after); after != before {
			continue
		}
		if ended {
			break
		}
		woken := e.DB.Signal().Wait()
		select {
		case <-done:
			ended = true
		case <-woken:
		case <-time.After(10 * time.Millisecond):
		case <-e.ctx.Done():
			e.Fatal(e.ctx.Err())
		}
	}
	counts, err := e.Counts(e.ctx)
	e.must(err)
	e.same(last, counts, "published and committed")
	if len(counts) != keys {
		e.Errorf("%d keys, want %d", len(counts), keys)
	}
}

// work is one transaction of a writer.
func (e *env[Tx]) work(r *rand.Rand, i int) (err error) {
	key := fmt.Sprintf("key-%d", r.IntN(4))
	tx, err := e.DB.Begin(e.ctx)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil { // others wait for its locks
			err = errors.Join(err, e.DB.Rollback(e.ctx, tx))
		}
	}()
	n, err := e.Count(e.ctx, tx, key)
	if err != nil {
		return err
	}
	if r.IntN(5) == 0 { // linger with the lock held
		select {
		case <-time.After(time.Duration(r.IntN(2000)) * time.Microsecond):
		case <-e.ctx.Done():
		}
	}
	if r.IntN(8) == 0 {
		if err := e.DB.Write(e.ctx, tx, store.Writes{Messages: messages(2, "stock", key)}); err != nil {
			return err
		}
		return e.DB.Rollback(e.ctx, tx)
	}
	return e.DB.Commit(e.ctx, tx, store.Writes{
		Token:    fmt.Sprintf("%s/%d", key, n),
		Messages: []*driver.Message{message(fmt.Sprintf("%s/%d", key, n), "stock", key)},
	})
}

func (suite[Tx]) token(e *env[Tx]) {
	e.must(e.DB.Commit(e.ctx, e.begin(), store.Writes{Token: "yes"}))
	for range 2 {
		committed, err := e.DB.Resolve(e.ctx, "yes")
		e.must(err)
		if !committed {
			e.Error("a committed transaction is said not to be")
		}
	}
	tx := e.begin()
	e.must(e.DB.Rollback(e.ctx, tx))
	for range 3 { // the answer to one that came before may have been lost
		committed, err := e.DB.Resolve(e.ctx, "no")
		e.must(err)
		if committed {
			e.Fatal("a transaction that was rolled back is said to be committed")
		}
	}
}

func (suite[Tx]) tokenFence(e *env[Tx]) {
	committed, err := e.DB.Resolve(e.ctx, "late")
	e.must(err)
	if committed {
		e.Fatal("nothing was committed yet")
	}
	tx := e.begin()
	_, err = e.Count(e.ctx, tx, "tea")
	e.must(err)
	if err := e.DB.Commit(e.ctx, tx, store.Writes{Token: "late", Messages: messages(1, "stock", "tea")}); err == nil {
		e.Error("a transaction committed after its token was resolved as not committed")
	}
	counts, err := e.Counts(e.ctx)
	e.must(err)
	e.same(counts, map[string]int64{}, "counters")
	e.same(ids(e.next(e.lead(), store.Position{})), []string{}, "outbox")
}

func (suite[Tx]) forget(e *env[Tx]) {
	for _, token := range []string{"1", "2", "3"} {
		e.must(e.DB.Commit(e.ctx, e.begin(), store.Writes{Token: token}))
	}
	n, err := e.DB.Forget(e.ctx, time.Now().Add(-time.Hour), 10)
	e.must(err)
	e.same(n, 0, "young tokens forgotten")
	n, err = e.DB.Forget(e.ctx, time.Now().Add(time.Hour), 2)
	e.must(err)
	e.same(n, 2, "tokens forgotten, at most 2")
}
