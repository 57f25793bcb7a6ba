package dovetail_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// hung is a service whose broker takes nothing until it is freed, and then all.
func hung(t *testing.T) (svc *dovetail.Service, conn *scripted, free func()) {
	conn = scriptedConn(t)
	svc = dovetail.New("mail", conn, quick)
	svc.Declare(welcome)
	if err := svc.Provision(t.Context()); err != nil {
		t.Fatal(err)
	}
	var freed atomic.Bool
	again := make(chan struct{})
	conn.send = func(ctx context.Context, ms []*driver.Message) error {
		if !freed.Load() {
			select {
			case <-again:
			case <-ctx.Done():
				var se driver.SendError
				for i := range ms {
					se.Fail(i, ctx.Err(), true)
				}
				return &se
			}
		}
		return conn.Conn.Send(ctx, ms)
	}
	return svc, conn, func() { freed.Store(true); close(again) }
}

func TestSend_that_leads_a_batch_ends_with_its_own_context(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc, conn, free := hung(t)
		type result struct {
			n    int
			err  error
			took time.Duration
		}
		results := make(chan result, 4)
		from := time.Now()
		// Of one key, the first sends alone; the second then leads for those
		// behind it, of whom the third gives up before it does.
		welcome := welcome.Keyed(func(item) string { return "ann" })
		for n, within := range []time.Duration{1, 3, 2, 3600} {
			go func() {
				ctx, cancel := context.WithTimeout(t.Context(), within*time.Second)
				defer cancel()
				results <- result{n, welcome.Send(ctx, svc, item{Count: n}), time.Since(from)}
			}()
			synctest.Wait()
		}
		time.AfterFunc(10*time.Second, free)
		for i, want := range []result{{n: 0, took: 1}, {n: 2, took: 2}, {n: 1, took: 3}} {
			r := <-results
			if r.n != want.n || r.took != want.took*time.Second || i > 0 && !errors.Is(r.err, dovetail.ErrUnknownOutcome) {
				t.Errorf("message %d: %v after %v, want message %d after %ds", r.n, r.err, r.took, want.n, want.took)
			}
		}
		if r := <-results; r.err != nil || r.took != 10*time.Second {
			t.Errorf("the one that has time: %v after %v", r.err, r.took)
		}
		arrived, err := conn.Conn.(driver.Browser).Browse(t.Context(), welcome.Spec().Channel.Name, "", 10)
		if err != nil || len(arrived) != 1 {
			t.Errorf("%d messages arrived, want 1; %v", len(arrived), err)
		}
	})
}

// Single sends do not wait for each other as far as they need not: a few are
// under way at once, the rest is sent with the next, and of a key one goes after
// another.
func TestSend_has_a_few_under_way_at_once_and_one_of_a_key(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		svc := dovetail.New("mail", conn, quick)
		welcome := welcome.Keyed(func(i item) string { return i.SKU })
		svc.Declare(welcome)
		if err := svc.Provision(t.Context()); err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var flights [][]string      // the bodies of each send, in the order in which they began
		under := map[string]bool{}  // keys
		next := make(chan struct{}) // lets one go
		conn.send = func(ctx context.Context, ms []*driver.Message) error {
			mu.Lock()
			var bodies []string
			for _, m := range ms {
				if m.Key != "" && under[m.Key] {
					t.Errorf("two sends of key %s at once", m.Key)
				}
				bodies = append(bodies, string(m.Body))
			}
			for _, m := range ms {
				under[m.Key] = true
			}
			flights = append(flights, bodies)
			mu.Unlock()
			<-next
			mu.Lock()
			for _, m := range ms {
				delete(under, m.Key)
			}
			mu.Unlock()
			return conn.Conn.Send(ctx, ms)
		}
		var sending sync.WaitGroup
		send := func(key string, n int) {
			sending.Go(func() {
				if err := welcome.Send(t.Context(), svc, item{SKU: key, Count: n}); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
		}
		for i, key := range []string{"a", "a", "", "b", "", "", "c", "a", ""} {
			send(key, i)
		}
		for range 5 {
			next <- struct{}{}
			synctest.Wait()
		}
		sending.Wait()
		body := func(key string, n int) string { return fmt.Sprintf(`{"sku":%q,"count":%d}`, key, n) }
		want := [][]string{
			{body("a", 0)}, {body("", 2)}, {body("b", 3)}, {body("", 4)}, // at once
			{body("a", 1), body("", 5), body("c", 6), body("a", 7), body("", 8)}, // when the first is over
		}
		if !reflect.DeepEqual(flights, want) {
			t.Errorf("sent %q, want %q", flights, want)
		}
	})
}
