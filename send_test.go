package dovetail_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

func TestSend_that_may_have_arrived_stays_unknown_whatever_follows(t *testing.T) {
	for name, later := range map[string]error{
		"broker away": fmt.Errorf("not connected: %w", driver.ErrRetryable),
		"refused":     &driver.SendError{Failures: []driver.SendFailure{{Err: driver.ErrDenied}}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conn := scriptedConn(t)
				first := true
				conn.send = func(ctx context.Context, ms []*driver.Message) error {
					if !first {
						return later
					}
					first = false
					return errors.Join(conn.Conn.Send(ctx, ms), &driver.SendError{
						Failures: []driver.SendFailure{{Err: driver.ErrRetryable, Unknown: true}}})
				}
				svc := dovetail.New("mail", conn, quick)
				svc.Declare(welcome)
				if err := welcome.Send(t.Context(), svc, item{}); !errors.Is(err, dovetail.ErrUnknownOutcome) {
					t.Errorf("got %v", err)
				}
			})
		})
	}
}

func TestSend_of_a_batch_comes_through_after_the_broker_lost_its_topology(t *testing.T) {
	conn := scriptedConn(t)
	svc := dovetail.New("mail", conn, quick)
	svc.Declare(welcome)
	if err := welcome.Send(t.Context(), svc, item{}); err != nil {
		t.Fatal(err)
	}
	if err := conn.Conn.(driver.Remover).RemoveChannel(t.Context(), welcome.Spec().Channel.Name); err != nil {
		t.Fatal(err)
	}
	if err := welcome.SendAll(t.Context(), svc, make([]item, 3)); err != nil {
		t.Error(err)
	}
}

func TestFirst_send_waits_for_a_broker_that_is_away(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc, f := flakyService(t, quick)
		svc.Declare(welcome)
		f.away.Store(true)
		time.AfterFunc(5*time.Second, func() { f.away.Store(false) })
		if err := welcome.Send(t.Context(), svc, item{}); err != nil {
			t.Error(err)
		}
		svc, f = flakyService(t, quick)
		svc.Declare(welcome)
		f.away.Store(true)
		from := time.Now()
		var se *dovetail.SendError
		if err := welcome.Send(t.Context(), svc, item{}); !errors.As(err, &se) || time.Since(from) > 31*time.Second {
			t.Errorf("got %v after %v", err, time.Since(from))
		}
	})
}

func TestChannel_that_is_slow_holds_up_no_other(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := scriptedConn(t)
		conn.refuse(driver.ErrRetryable, func(m *driver.Message) bool { return m.Channel == "slow" })
		svc := dovetail.New("mail", conn, quick)
		slow := dovetail.NewCommand[item]("slow")
		svc.Declare(slow)
		var others []dovetail.Command[item]
		for i := range 64 {
			others = append(others, dovetail.NewCommand[item](fmt.Sprintf("fast-%d", i)))
			svc.Declare(others[i])
		}
		go slow.Send(t.Context(), svc, item{})
		synctest.Wait()
		from := time.Now()
		for _, c := range others {
			if err := c.Send(t.Context(), svc, item{}); err != nil {
				t.Error(err)
			}
		}
		if took := time.Since(from); took > 0 {
			t.Errorf("the others took %v", took)
		}
	})
}

func TestHooks_add_headers_to_each_message_of_a_batch(t *testing.T) {
	opts := quick
	opts.Hooks.Prepare = func(_ context.Context, ms []*driver.Message) {
		for i, m := range ms {
			m.Headers = m.Headers.With("trace", fmt.Sprint(i))
		}
	}
	conn := scriptedConn(t)
	var got []string
	conn.send = func(_ context.Context, ms []*driver.Message) error {
		for _, m := range ms {
			got = append(got, m.Headers.Get("trace"))
		}
		return nil
	}
	svc := dovetail.New("mail", conn, opts)
	svc.Declare(welcome)
	with := dovetail.Header
	if err := welcome.SendAll(t.Context(), svc, make([]item, 3), with("a", "1"), with("b", "2"), with("c", "3")); err != nil {
		t.Fatal(err)
	}
	if want := []string{"0", "1", "2"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
