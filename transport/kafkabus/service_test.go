package kafkabus_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/twmb/franz-go/pkg/kadm"
)

type question struct{ N int }

// Two instances of one service ask a third: each gets its own answers, over the
// one reply topic that they share.
func TestService_instances_share_a_reply_topic(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	double := dovetail.NewCall[question, question]("math.double")
	broken := dovetail.NewCommand[question]("math.broken")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	run := func(name string, setup func(*dovetail.Service)) *dovetail.Service {
		svc := dovetail.New(name, connect(t, options(s)), dovetail.Options{})
		setup(svc)
		wg.Go(func() {
			if err := svc.Run(ctx); err != nil && !errors.Is(err, context.Canceled) {
				t.Errorf("run %s: %v", name, err)
			}
		})
		return svc
	}
	math := run("math", func(svc *dovetail.Service) {
		double.Handle(svc, func(_ context.Context, q question) (question, error) { return question{2 * q.N}, nil })
		broken.Handle(svc, func(context.Context, question) error { return errors.New("never works") },
			dovetail.Retry(dovetail.RetryPolicy{Attempts: 2, First: time.Millisecond}))
	})
	_ = math
	var asking sync.WaitGroup
	for i := range 2 {
		asker := run("asker", func(svc *dovetail.Service) { svc.Declare(double, broken) })
		asking.Go(func() {
			for n := range 20 {
				bounded, cancel := context.WithTimeout(ctx, patience)
				got, err := double.Request(bounded, asker, question{100*i + n})
				cancel()
				if err != nil || got.N != 2*(100*i+n) {
					t.Errorf("asker %d: double %d is %d, %v", i, 100*i+n, got.N, err)
					return
				}
			}
			if err := broken.Send(ctx, asker, question{i}); err != nil {
				t.Error(err)
			}
		})
	}
	asking.Wait()
	topics, err := kadm.NewClient(plain(t, s)).ListTopics(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	replies := 0
	for name := range topics {
		if strings.HasPrefix(name, "reply.asker") {
			replies++
		}
	}
	if replies != 1 {
		t.Errorf("two instances have %d reply topics, want one for the service", replies)
	}
	// What could not be handled is in the dead letters, until it is removed.
	c := connect(t, options(s))
	dead := dovetail.DeadLetterChannel("math")
	var page []driver.StoredMessage
	eventually(t, func() string { return "two dead letters" }, func() bool {
		page, err = c.Browse(t.Context(), dead, "", 10)
		return err == nil && len(page) == 2
	})
	for _, st := range page {
		if d, err := dovetail.ParseDeadLetter(st.Message); err != nil || d.Error != "never works" || d.Attempts != 2 {
			t.Errorf("dead letter %+v, %v", d, err)
		}
	}
	if err := c.Remove(t.Context(), dead, []string{page[1].Position}); err != nil {
		t.Fatal(err)
	}
	if left, err := connect(t, options(s)).Browse(t.Context(), dead, "", 10); err != nil || len(left) != 1 || left[0].Position != page[0].Position {
		t.Errorf("after the second was removed %d are left, %v", len(left), err)
	}
	if err := c.Remove(t.Context(), dead, []string{page[0].Position}); err != nil {
		t.Fatal(err)
	}
	starts, err := kadm.NewClient(plain(t, s)).ListStartOffsets(t.Context(), dead)
	if at, _ := starts.Lookup(dead, 0); err != nil || at.Offset < 2 {
		t.Errorf("with all removed the channel begins at %d, %v: want what was removed off the disk", at.Offset, err)
	}
	cancel()
	wg.Wait()
}

// A dead letter channel of many keeps its pages right while letters come and go.
func TestBrowse_pages_while_letters_are_removed(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	c := connect(t, options(s))
	ch := driver.Channel{Name: "dead.paged"}
	provision(t, c, ch)
	const n = 500
	ms := make([]*driver.Message, n)
	for i := range ms {
		ms[i] = &driver.Message{Channel: ch.Name, ID: fmt.Sprintf("d%03d", i), Key: "k", Body: make([]byte, 3000)}
	}
	if err := c.Send(t.Context(), ms); err != nil {
		t.Fatal(err)
	}
	seen, after := 0, ""
	for {
		page, err := c.Browse(t.Context(), ch.Name, after, 64)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		var gone []string
		for _, st := range page {
			if st.Message.ID != ms[seen].ID || st.Message.Key != "k" {
				t.Fatalf("letter %d is %s with key %q", seen, st.Message.ID, st.Message.Key)
			}
			if seen%2 == 0 {
				gone = append(gone, st.Position)
			}
			seen++
		}
		after = page[len(page)-1].Position
		if err := c.Remove(t.Context(), ch.Name, gone); err != nil {
			t.Fatal(err)
		}
	}
	if seen != n {
		t.Errorf("paged through %d of %d", seen, n)
	}
	if left, err := c.Browse(t.Context(), ch.Name, "", n); err != nil || len(left) != n/2 || left[0].Message.ID != "d001" {
		t.Errorf("%d are left, %v; want the odd ones", len(left), err)
	}
}
