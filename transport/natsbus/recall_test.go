package natsbus

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// openOne opens a receiver of a channel without partitions.
func openOne(t *testing.T, channel string) *receiver {
	t.Helper()
	srv := servers.Shared(t, servers.NATS)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	c, err := Connect(ctx, Options{URL: srv.URL(), AckWait: 10 * time.Minute, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
	})
	s := driver.Subscription{Channel: driver.Channel{Name: channel}, Group: "worker", Instance: "1", Window: 10}
	if err := c.Provision(ctx, nil, []driver.Subscription{s}); err != nil {
		t.Fatal(err)
	}
	r, err := c.OpenReceiver(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	return r.(*receiver)
}

// What the server counts as unsettled is compared with what is here, so that all
// that was lost is waited for.
func TestRecall_waits_for_all_that_the_server_counts_as_unsettled(t *testing.T) {
	for name, c := range map[string]struct {
		state func(r *receiver, src *source, info *jetstream.ConsumerInfo, kept map[uint64]*nats.Msg)
		want  int  // of three messages that the server counts
		gap   bool // it is asked who else is there, first
	}{
		"nothing is here": {func(*receiver, *source, *jetstream.ConsumerInfo, map[uint64]*nats.Msg) {}, 3, false},
		"one is in hand": {func(r *receiver, src *source, info *jetstream.ConsumerInfo, _ map[uint64]*nats.Msg) {
			src.held.add(receiptOf(r, src, info, 1, 1))
		}, 2, false},
		"one is in hand and came again as new": {func(r *receiver, src *source, info *jetstream.ConsumerInfo, kept map[uint64]*nats.Msg) {
			rc := receiptOf(r, src, info, 1, 1)
			src.held.add(rc)
			kept[1] = &nats.Msg{Reply: rc.reply}
		}, 2, false},
		"one is in hand that the server does not know": {func(r *receiver, src *source, info *jetstream.ConsumerInfo, _ map[uint64]*nats.Msg) {
			src.held.add(receiptOf(r, src, info, 1, 99))
		}, 3, false},
		"one is delayed, for all that is known": {func(r *receiver, _ *source, _ *jetstream.ConsumerInfo, _ map[uint64]*nats.Msg) {
			r.delays.add(1, time.Now().Add(time.Hour), time.Now())
		}, 3, false},
		"a request brought nothing, and something went elsewhere": {func(r *receiver, src *source, info *jetstream.ConsumerInfo, kept map[uint64]*nats.Msg) {
			short(r, src, info, kept)
			src.last--
		}, 0, true},
		"a request was refused": {func(r *receiver, src *source, info *jetstream.ConsumerInfo, kept map[uint64]*nats.Msg) {
			short(r, src, info, kept)
			src.short, src.credit = false, 1
			_ = src.status(&nats.Msg{Header: nats.Header{"Status": {"409"}, "Description": {"Exceeded MaxWaiting"}}})
		}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := openOne(t, fmt.Sprintf("recall-%d-%d", len(name), c.want))
			src := r.sources[0]
			lose(t, r, 3)
			if err := r.resync(t.Context()); err != nil { // of the first link
				t.Fatal(err)
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			info, err := r.look(t.Context(), src)
			if err != nil {
				t.Fatal(err)
			}
			src.last, src.short, src.got = info.Delivered.Consumer, false, map[uint64]*nats.Msg{}
			kept := map[uint64]*nats.Msg{}
			c.state(r, src, info, kept)
			if err := r.recall(t.Context(), src, info, kept); err != nil {
				t.Fatal(err)
			}
			if missing := src.want - len(src.got); src.gap != c.gap || !c.gap && (!src.joining || missing != c.want) {
				t.Errorf("gap %v, joining %v, %d are waited for, want %d", src.gap, src.joining, missing, c.want)
			}
			src.held = receipts{}
		})
	}
}

// A message that is handed back while others are asked back is delivered at once.
// It is taken in, for it is not in hand any more.
func TestCollect_takes_in_what_is_no_longer_in_hand(t *testing.T) {
	reply := func(attempt, seq, consumer int) string {
		return fmt.Sprintf("$JS.ACK.S.C.%d.%d.%d.1.0", attempt, seq, consumer)
	}
	r := &receiver{}
	src := &source{owned: true, pin: "p", joining: true, want: 2, last: 10, upto: 5, got: map[uint64]*nats.Msg{}, skip: map[uint64]bool{1: true, 2: true, 3: true}}
	r.sources = []*source{src}
	src.held.add(&receipt{r: r, src: src, seq: 2, reply: reply(1, 2, 2)})
	src.aside = asides{3: reply(1, 3, 3)}
	for i := 1; i <= 4; i++ { // the first was handed back, the fourth was lost
		r.collect(src, &nats.Msg{Reply: reply(2, i, 10+i)})
	}
	if src.got[1] == nil || src.got[4] == nil || len(src.got) != 2 || src.want != 3 || !src.joining {
		t.Errorf("%d are here of %d that are waited for, want 2 of 3: the first, which was handed back, and the fourth", len(src.got), src.want)
	}
	if got := src.held.first.reply; got != reply(2, 2, 12) {
		t.Errorf("what is in hand is acknowledged at %s", got)
	}
	if got := src.aside[3]; got != reply(2, 3, 13) {
		t.Errorf("what is set aside is acknowledged at %s", got)
	}
}

// short is when a request has brought nothing beside what was kept of the three,
// which is as much as the server counts beside a copy in hand.
func short(r *receiver, src *source, info *jetstream.ConsumerInfo, kept map[uint64]*nats.Msg) {
	src.held.add(receiptOf(r, src, info, 2, 1))
	for seq := uint64(2); seq <= 3; seq++ {
		kept[seq] = &nats.Msg{Reply: receiptOf(r, src, info, 1, seq).reply}
	}
	src.joining, src.short, src.had, src.got = true, true, len(kept), kept
}

func receiptOf(r *receiver, src *source, info *jetstream.ConsumerInfo, attempt int, seq uint64) *receipt {
	return &receipt{r: r, src: src, seq: seq, reply: fmt.Sprintf("$JS.ACK.%s.%s.%d.%d.%d.1.0", info.Stream, info.Name, attempt, seq, seq)}
}

// lose has the server deliver messages that nobody takes.
func lose(t *testing.T, r *receiver, n int) {
	t.Helper()
	var ms []*driver.Message
	for i := range n {
		ms = append(ms, &driver.Message{Channel: r.s.Channel.Name, ID: fmt.Sprint(i), Source: "test", Type: "t.v1"})
	}
	if err := r.c.Send(t.Context(), ms); err != nil {
		t.Fatal(err)
	}
	consumer, err := r.c.js.Consumer(t.Context(), r.stream, r.sources[0].consumer)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := consumer.Fetch(n)
	if err != nil {
		t.Fatal(err)
	}
	for range batch.Messages() {
	}
	info, err := consumer.Info(t.Context())
	if err != nil || info.NumAckPending != n {
		t.Fatalf("%d are unsettled, want %d: %v", info.NumAckPending, n, err)
	}
}
