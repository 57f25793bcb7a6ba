package membus

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// TestMessages_keep_their_own_body_and_headers_under_load has senders with batches
// of every size, three groups, retries, hand-backs and a browser at once, and
// checks every body against the id: memory that was mixed up would
// show another message's, and the race detector would say so.
func TestMessages_keep_their_own_body_and_headers_under_load(t *testing.T) {
	b, err := New(Options{Messages: 300, Partitions: 5})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	c := b.Connect()
	defer c.Close(context.Background())
	ch := driver.Channel{Name: "busy", Kind: driver.PublishSubscribe}
	groups := []string{"a", "b", "c"}
	var subs []driver.Subscription
	for _, g := range groups {
		subs = append(subs, driver.Subscription{Channel: ch, Group: g, Instance: g, Window: 100})
	}
	if err := c.Provision(ctx, []driver.Channel{ch}, subs); err != nil {
		t.Fatal(err)
	}
	body := func(id string) []byte { return bytes.Repeat([]byte(id), 1+len(id)*int(id[len(id)-1]%16)*9) }
	check := func(m *driver.Message) {
		if !bytes.Equal(m.Body, body(m.ID)) || m.Headers.Get("id") != m.ID {
			t.Errorf("message %s has the body or headers of another: %.30q, %v", m.ID, m.Body, m.Headers)
		}
	}
	const senders, each = 3, 1500
	var mu sync.Mutex
	handled := map[string]int{}
	all := make(chan struct{})
	var wg sync.WaitGroup
	for _, s := range subs {
		for range 2 {
			wg.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					r, err := c.OpenReceiver(ctx, s)
					if err != nil {
						return
					}
					for range 20 {
						short, done := context.WithTimeout(ctx, 5*time.Millisecond)
						ds, err := r.Receive(short, 1+n%30)
						done()
						if err != nil {
							break
						}
						var ss []driver.Settlement
						for i, d := range ds {
							check(d.Message)
							st := driver.Settlement{Delivery: d, Outcome: driver.Outcome(rand.IntN(2))}
							if i%9 == 8 {
								continue // given back by Close
							}
							if st.Outcome == driver.Ack {
								mu.Lock()
								if handled[s.Group+d.Message.ID]++; len(handled) == len(groups)*senders*each {
									close(all)
								}
								mu.Unlock()
							}
							ss = append(ss, st)
						}
						if err := r.Settle(ctx, ss); err != nil {
							t.Error(err)
						}
					}
					r.Close(ctx)
				}
			})
		}
	}
	wg.Go(func() {
		for ctx.Err() == nil {
			page, err := c.Browse(ctx, ch.Name, "", 20)
			if err != nil {
				return
			}
			for _, s := range page {
				check(s.Message)
			}
		}
	})
	for i := range senders {
		wg.Go(func() {
			for n := 0; n < each; {
				var ms []*driver.Message
				for range min(1+rand.IntN(150), each-n) {
					id := fmt.Sprintf("%d-%d", i, n)
					ms = append(ms, &driver.Message{Channel: ch.Name, ID: id, Key: fmt.Sprint(n % 11), Body: body(id), Headers: driver.Headers{{Name: "id", Value: id}}})
					n++
				}
				if n%7 == 0 {
					ms[0].Key = ""
				}
				if err := c.Send(ctx, ms); err != nil {
					t.Error(err)
				}
			}
		})
	}
	<-all
	cancel()
	wg.Wait()
	for id, n := range handled {
		if n != 1 {
			t.Fatalf("%s was acknowledged %d times", id, n)
		}
	}
}

func TestDeque_keeps_its_order(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	var q deque
	var model, out []uint64
	var next uint64
	for range 20_000 {
		switch op := rnd.IntN(10); {
		case op < 4+len(model)/200:
			if len(model) > 0 {
				it := q.pop()
				if it.order != model[0] {
					t.Fatalf("popped %d, want %d", it.order, model[0])
				}
				model = model[1:]
				out = append(out, it.order)
			}
		case op < 6 && len(out) > 0:
			i := rnd.IntN(len(out))
			q.insert(item{order: out[i]})
			at, _ := slices.BinarySearch(model, out[i])
			model = slices.Insert(slices.Clone(model), at, out[i])
			out = slices.Delete(out, i, i+1)
		case op == 9 && rnd.IntN(50) == 0:
			odd := func(o uint64) bool { return o%3 == 0 }
			before := len(model)
			model = slices.DeleteFunc(slices.Clone(model), odd)
			if n := q.filter(func(it item) bool { return !odd(it.order) }); n != before-len(model) {
				t.Fatalf("filter dropped %d, want %d", n, before-len(model))
			}
		default:
			next++
			q.push(item{order: next})
			model = append(model, next)
		}
		if q.n != len(model) {
			t.Fatalf("%d items, want %d", q.n, len(model))
		}
	}
}

// TestReceivers_of_keyless_messages_all_work has each message block its
// receiver: with as many receivers as messages all must be handed out at once.
func TestReceivers_of_keyless_messages_all_work(t *testing.T) {
	f := setup(t, Options{})
	const n = 8
	got := make(chan string, n)
	var wg sync.WaitGroup
	for range n {
		r := f.open()
		wg.Go(func() {
			ds, err := r.Receive(t.Context(), 1)
			if err != nil {
				t.Error(err)
				return
			}
			got <- ds[0].Message.ID
		})
	}
	for i := range n {
		m := &driver.Message{Channel: f.ch.Name, ID: fmt.Sprint(i)}
		if err := f.c.Send(t.Context(), []*driver.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	wg.Wait()
	if len(got) != n {
		t.Fatalf("%d of %d messages were handed out", len(got), n)
	}
}

func TestMembus_allocates_little_for_each_message(t *testing.T) {
	f := setup(t, Options{})
	r := f.open()
	ms := f.messages(64, 200)
	var ss []driver.Settlement
	n := testing.AllocsPerRun(200, func() {
		if err := f.c.Send(t.Context(), ms); err != nil {
			t.Fatal(err)
		}
		for got := 0; got < len(ms); {
			ds := f.receive(r, 64)
			got += len(ds)
			ss = ss[:0]
			for _, d := range ds {
				ss = append(ss, driver.Settlement{Delivery: d})
			}
			if err := r.Settle(t.Context(), ss); err != nil {
				t.Fatal(err)
			}
		}
	})
	if perMessage := n / float64(len(ms)); perMessage > 0.5 {
		t.Fatalf("%.2f allocations a message in batches of 64", perMessage)
	}
}
