package dovetail_test

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

func TestLimits_hold_for_what_comes_in(t *testing.T) {
	svc := open(t, "mail", quick)
	handled := make(chan string, 10)
	welcome.Handle(svc, func(ctx context.Context, _ item) error {
		handled <- dovetail.DeliveryFromContext(ctx).Message.ID
		return nil
	})
	start(t, svc)
	many := make(driver.Headers, 65)
	for i := range many {
		many[i] = driver.Header{Name: "n", Value: "v"}
	}
	deep := []byte(strings.Repeat("[", 65) + strings.Repeat("]", 65))
	messages := []*driver.Message{
		{ID: "big body", Body: append(bytes.Repeat([]byte(" "), 1<<20), `{}`...)},
		{ID: "many headers", Body: []byte(`{}`), Headers: many},
		{ID: "big headers", Body: []byte(`{}`), Headers: driver.Headers{{Name: "n", Value: strings.Repeat("v", 16<<10)}}},
		{ID: "deep", Body: deep},
		{ID: strings.Repeat("long", 1000), Body: []byte(`{}`)},
		{ID: "long key", Key: strings.Repeat("k", driver.MaxKey+1), Body: []byte(`{}`)},
		{ID: "sound, no text in the key", Key: "\xff", Body: []byte(`{}`)},
		{ID: "sound, line in a value", Body: []byte(`{}`), Headers: driver.Headers{{Name: "n", Value: "a\r\nb"}}},
		{ID: "sound, nul in a value", Body: []byte(`{}`), Headers: driver.Headers{{Name: "n", Value: "a\x00b"}}},
		{ID: "sound, line in a name", Body: []byte(`{}`), Headers: driver.Headers{{Name: "n\nm", Value: "v"}}},
		{ID: "sound, line in the id\n", Body: []byte(`{}`)},
		{ID: "sound, line in the source", Source: "a\rb", Body: []byte(`{}`)},
		{ID: "sound, line in the key", Key: "a\nb", Body: []byte(`{}`)},
		{ID: "sound", Body: []byte(`{}`), Headers: many[:64]},
	}
	for _, m := range messages {
		m.Channel, m.Type = welcome.Spec().Channel.Name, welcome.Spec().Type()
		if err := svc.Conn().Send(t.Context(), []*driver.Message{m}); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "the dead letters", func() bool { return svc.Stats().Dead+svc.Stats().Handled == int64(len(messages)) })
	var want, got []string // what is no text is carried as the text that stands for it
	for _, m := range messages {
		if strings.HasPrefix(m.ID, "sound") {
			want = append(want, driver.ForeignText([]byte(m.ID)))
		}
	}
	for close(handled); len(handled) > 0; {
		got = append(got, <-handled)
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("handled %q, want %q", got, want)
	}
	if n := svc.Stats().Dead; n != int64(len(messages)-len(want)) {
		t.Errorf("%d dead letters", n)
	}
}

func TestLimits_hold_for_what_goes_out(t *testing.T) {
	type node struct {
		Next []node `json:"next,omitempty"`
	}
	svc := open(t, "mail", quick)
	tree := dovetail.NewEvent[node]("mail.tree")
	svc.Declare(tree, welcome)
	nested := func(depth int) (n node) {
		for range depth {
			n = node{[]node{n}}
		}
		return n
	}
	if err := tree.Publish(t.Context(), svc, nested(20)); err != nil {
		t.Errorf("41 deep: %v", err)
	}
	if err := tree.Publish(t.Context(), svc, nested(40)); !errors.Is(err, dovetail.ErrInvalid) {
		t.Errorf("81 deep, which no receiver takes: got %v", err)
	}
	for _, opt := range []dovetail.SendOption{
		dovetail.Header("n", "a\nb"), dovetail.Header("n\nm", "v"), dovetail.ID("a\nb"), dovetail.Header("n", strings.Repeat("v", 16<<10)),
	} {
		if err := welcome.Send(t.Context(), svc, item{}, opt); !errors.Is(err, dovetail.ErrInvalid) {
			t.Errorf("got %v", err)
		}
	}
	if err := svc.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestLimits_hold_for_replies(t *testing.T) {
	small, large := quick, quick
	small.Limits.Body, large.Limits.Body = 100, 1000
	big := item{strings.Repeat("x", 500), 1}
	t.Run("of the one who answers", func(t *testing.T) {
		caller, catalog := open(t, "shop", large), open(t, "catalog", small)
		reserve.Handle(catalog, func(context.Context, item) (item, error) { return big, nil })
		caller.Declare(reserve)
		start(t, caller, catalog)
		var failed *dovetail.RemoteError
		if _, err := reserve.Request(t.Context(), caller, item{}, dovetail.Within(5*time.Second)); !errors.As(err, &failed) {
			t.Errorf("got %v, want to be told at once", err)
		}
	})
	t.Run("of the one who asks", func(t *testing.T) {
		caller, catalog := open(t, "shop", small), open(t, "catalog", large)
		reserve.Handle(catalog, func(context.Context, item) (item, error) { return big, nil })
		view.Handle(catalog, func(context.Context, string) (item, error) { return big, nil })
		caller.Declare(reserve, view)
		start(t, caller, catalog)
		if _, err := reserve.Request(t.Context(), caller, item{}); !errors.Is(err, dovetail.ErrInvalid) {
			t.Errorf("request: got %v", err)
		}
		for _, err := range view.Gather(t.Context(), caller, "x", dovetail.Expect(1)) {
			if !errors.Is(err, dovetail.ErrInvalid) {
				t.Errorf("gather: got %v", err)
			}
		}
	})
}

func TestLimits_below_zero_are_refused(t *testing.T) {
	for _, l := range []dovetail.Limits{{Body: -1}, {Headers: -1}, {HeaderBytes: -1}} {
		opts := quick
		opts.Limits = l
		svc := dovetail.New("mail", scriptedConn(t), opts)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := svc.Run(ctx); err == nil || !strings.Contains(err.Error(), "Options.Limits.") {
			t.Errorf("%+v: got %v", l, err)
		}
	}
}

func TestWindowBytes_hold_for_the_first_messages_too(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		opts := quick
		opts.WindowBytes = 10 << 20
		conn := scriptedConn(t)
		svc := dovetail.New("mail", conn, opts)
		raw := dovetail.NewCommand[[]byte]("mail.raw")
		svc.Declare(raw)
		if err := raw.SendAll(t.Context(), svc, slices.Repeat([][]byte{make([]byte, 1<<20-1000)}, 50)); err != nil {
			t.Fatal(err)
		}
		var handled atomic.Int32
		begin := make(chan struct{})
		raw.Handle(svc, func(context.Context, []byte) error { <-begin; handled.Add(1); return nil })
		stop := runBubble(t, svc)
		all, err := conn.Conn.(driver.Lister).Channels(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range all {
			if c.Channel.Name == "mail.raw" && c.Groups[0].Pending > 11 {
				t.Errorf("%d MiB are in hand, want 10", c.Groups[0].Pending)
			}
		}
		close(begin)
		synctest.Wait()
		stop()
		if handled.Load() != 50 {
			t.Errorf("%d of 50 handled", handled.Load())
		}
	})
}
