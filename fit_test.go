package dovetail_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// narrow is a fake: a transport in memory that takes no message beyond a size.
type narrow struct {
	*scripted
	most int
	says bool // in its capabilities
}

func (c *narrow) Capabilities() driver.Capabilities {
	caps := c.scripted.Capabilities()
	caps.MaxBytes = 0
	if c.says {
		caps.MaxBytes = c.most
	}
	return caps
}

func (c *narrow) Send(ctx context.Context, ms []*driver.Message) error {
	for i, m := range ms {
		if m.Size() > c.most {
			if len(ms) > 1 && i > 0 {
				return driver.ErrTooLarge // as a whole
			}
			return &driver.SendError{Failures: failures(len(ms), driver.ErrTooLarge)}
		}
	}
	return c.scripted.Send(ctx, ms)
}

func failures(n int, err error) (fs []driver.SendFailure) {
	for i := range n {
		fs = append(fs, driver.SendFailure{Index: i, Err: err})
	}
	return fs
}

// letters are the dead letters of mail.
func letters(t *testing.T, conn driver.Conn) (all []dovetail.DeadLetter) {
	t.Helper()
	stored, err := conn.(driver.Browser).Browse(t.Context(), dovetail.DeadLetterChannel("mail"), "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range stored {
		d, err := dovetail.ParseDeadLetter(s.Message)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, d)
	}
	return all
}

func TestDeadLetter_fits_whatever_the_message_is(t *testing.T) {
	const most = 8 << 10
	for _, says := range []bool{true, false} {
		for name, c := range map[string]struct {
			m   driver.Message
			cut string
		}{
			"a long error":    {driver.Message{Body: make([]byte, 6200)}, "stack"},
			"large headers":   {driver.Message{Body: []byte("b"), Headers: driver.Headers{{Name: "x", Value: strings.Repeat("h", 7900)}}}, "stack,headers"},
			"a large body":    {driver.Message{Body: make([]byte, 8000)}, "stack,headers,body"},
			"a long key":      {driver.Message{Key: strings.Repeat("k", 7900)}, "stack,headers,body,names"},
			"nothing special": {driver.Message{Body: []byte("b")}, ""},
		} {
			t.Run(fmt.Sprintf("%s, declared %v", name, says), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					conn := &narrow{scripted: scriptedConn(t), most: most, says: says}
					svc := dovetail.New("mail", conn, quick)
					var good atomic.Int32
					blob.Handle(svc, func(ctx context.Context, b []byte) error {
						if dovetail.DeliveryFromContext(ctx).Message.Source == "elsewhere" {
							return dovetail.Permanent(errors.New(strings.Repeat("e", 5000)))
						}
						good.Add(1)
						return nil
					})
					svc.Declare(blob)
					defer runBubble(t, svc)()
					m := c.m
					m.Channel, m.ID, m.Source, m.Type = blob.Spec().Channel.Name, "poison", "elsewhere", blob.Spec().Type()
					m.Time, m.ContentType = time.Now(), "application/octet-stream"
					if err := conn.scripted.Send(t.Context(), []*driver.Message{&m}); err != nil {
						t.Fatal(err)
					}
					for n := range 20 {
						if err := blob.Send(t.Context(), svc, fmt.Append(nil, "good", n)); err != nil {
							t.Fatal(err)
						}
					}
					<-time.After(time.Minute)
					if n := good.Load(); n != 20 {
						t.Errorf("%d of 20 others were handled", n)
					}
					all := letters(t, conn.Conn)
					if len(all) != 1 || conn.unsettled(t) > 0 {
						t.Fatalf("%d dead letters, %d messages are not settled", len(all), conn.unsettled(t))
					}
					d := all[0]
					if got := strings.Join(d.Cut, ","); got != c.cut && (says || !strings.HasPrefix(c.cut, got)) {
						t.Errorf("cut %q, want %q", got, c.cut)
					}
					cut := slices.Contains(d.Cut, "body")
					if d.Message.ID != "poison" || d.Service != "mail" || d.Error == "" || cut == (len(d.Message.Body) > 0 || d.Body == "") && len(c.m.Body) > 0 {
						t.Errorf("letter %+v", d)
					}
					if !cut {
						return
					}
					// It is not handled again: its body is gone.
					if err := conn.Send(t.Context(), []*driver.Message{d.Requeue()}); err != nil {
						t.Fatal(err)
					}
					<-time.After(time.Minute)
					all = letters(t, conn.Conn)
					if len(all) != 2 || all[1].Body != d.Body || all[1].Requeues != 1 || !strings.Contains(all[1].Error, "cannot be handled again") {
						t.Errorf("requeued: %+v", all)
					}
				})
			})
		}
	}
}

func TestDeadLetter_that_fits_in_no_way_is_told_and_leaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		conn.refuse(driver.ErrTooLarge, func(m *driver.Message) bool { return m.Channel == "dead.mail" })
		opts := quick
		var lost atomic.Int32
		opts.Hooks.Notice = func(n dovetail.Notice) {
			if n.Kind == dovetail.NoticeLost {
				lost.Add(1)
			}
		}
		svc := dovetail.New("mail", conn, opts)
		welcome.Handle(svc, func(context.Context, item) error { return errors.New("no") })
		svc.Declare(welcome)
		defer runBubble(t, svc)()
		if err := welcome.Send(t.Context(), svc, item{}); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		if n := conn.unsettled(t); n > 0 || lost.Load() != 1 || svc.Stats().Dead != 0 {
			t.Errorf("%d messages are not settled, %d notices, %d dead letters", n, lost.Load(), svc.Stats().Dead)
		}
	})
}

// A note that fails for ever holds up neither other notes nor a shutdown.
func TestOnDeadLetter_that_always_fails_ends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		svc := dovetail.New("mail", conn, quick)
		var noted atomic.Int32
		welcome.Handle(svc, func(ctx context.Context, i item) error {
			dovetail.DeliveryFromContext(ctx).OnDeadLetter(func(context.Context) error {
				switch {
				case i.Count%10 == 0:
					return errors.New("invalid byte sequence")
				case i.Count%10 == 1:
					panic("no")
				}
				noted.Add(1)
				return nil
			})
			return dovetail.Permanent(errors.New("no"))
		})
		svc.Declare(welcome)
		stop := runBubble(t, svc)
		send := func() {
			for n := range 100 {
				if err := welcome.Send(t.Context(), svc, item{Count: n}); err != nil {
					t.Fatal(err)
				}
			}
		}
		send()
		<-time.After(time.Second)
		if n := noted.Load(); n != 80 {
			t.Errorf("%d of 80 others are noted", n)
		}
		<-time.After(5 * time.Minute)
		if n := conn.unsettled(t); n > 0 || svc.Stats().Dead != 100 {
			t.Errorf("%d messages are not settled, %d dead letters", n, svc.Stats().Dead)
		}
		send()
		<-time.After(time.Second)
		from := time.Now()
		stop()
		if took := time.Since(from); took > 15*time.Second {
			t.Errorf("the shutdown took %v", took)
		}
	})
}
