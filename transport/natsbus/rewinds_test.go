package natsbus

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/nats-io/nats.go"
)

// The requests of a link that the server has not missed take messages for as long
// as they last. They are not taken for programs that know nothing of Dovetail, for
// which order would be given up.
func TestReceiver_takes_the_requests_of_a_lost_link_for_no_foreign_program(t *testing.T) {
	srv := servers.Shared(t, servers.NATS)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c, err := Connect(ctx, Options{URL: srv.URL(), Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(context.WithoutCancel(ctx))
	s := driver.Subscription{Channel: driver.Channel{Name: "rewinds"}, Group: "worker", Instance: "1", Window: 10}
	if err := c.Provision(ctx, nil, []driver.Subscription{s}); err != nil {
		t.Fatal(err)
	}
	opened, err := c.OpenReceiver(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	r := opened.(*receiver)
	src := r.sources[0]
	// foreign reports whether one more gap shows that others receive.
	foreign := func() bool {
		t.Helper()
		r.mu.Lock()
		src.gap, src.rewinds = true, maxRewinds
		r.mu.Unlock()
		if err := r.resync(ctx); err != nil {
			t.Fatal(err)
		}
		r.mu.Lock()
		defer r.mu.Unlock()
		return src.foreign
	}
	if err := r.resync(ctx); err != nil { // of the first link
		t.Fatal(err)
	}
	ghost, err := nats.Connect(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer ghost.Close()
	listens, err := ghost.SubscribeSync(r.members.subject) // and answers nothing
	if err != nil {
		t.Fatal(err)
	}
	if err := ghost.FlushWithContext(ctx); err != nil {
		t.Fatal(err)
	}
	if foreign() {
		t.Error("a gap while a lost link is still there is taken for that of foreign programs")
	}
	if err := errors.Join(listens.Unsubscribe(), ghost.FlushWithContext(ctx)); err != nil {
		t.Fatal(err)
	}
	if !foreign() {
		t.Error("with nobody there but foreign programs, gaps are not taken for theirs")
	}
}
