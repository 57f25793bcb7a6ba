package dovetail_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/membus"
)

// A stranger's messages that nobody can read fill the dead-letter channel: what is
// logged of them are a few lines, an alarm comes before the bound, nothing is lost
// at the bound, and the service goes on when there is room again.
func TestDead_letters_that_pile_up_are_told_in_few_lines_with_an_alarm_and_none_is_lost_at_the_bound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const bound, sent = 2000, 2500
		bus, err := membus.New(membus.Options{Messages: bound, Wait: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		opts := quick
		opts.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
		conn := bus.Connect()
		svc := dovetail.New("mail", conn, opts)
		handled := 0
		welcome.Handle(svc, func(context.Context, item) error { handled++; return nil })
		stop := runBubble(t, svc)
		for i := range sent {
			m := &driver.Message{Channel: welcome.Spec().Channel.Name, ID: fmt.Sprint(i), Type: welcome.Spec().Type(), Body: []byte("{\x1b[2J")}
			if err := conn.Send(t.Context(), []*driver.Message{m}); err != nil {
				t.Fatal(err)
			}
			if i%500 == 499 { // the channel of the service has the same bound
				<-time.After(time.Second)
			}
		}
		<-time.After(5 * time.Minute)
		synctest.Wait()
		if dead := svc.Stats().Dead; dead != bound {
			t.Errorf("%d dead letters were kept, want as many as there is room for, %d", dead, bound)
		}
		for kept := 0; kept < sent; { // an operator looks, and discards them
			page, err := conn.Browse(t.Context(), dovetail.DeadLetterChannel("mail"), "", 500)
			if err != nil || len(page) == 0 {
				t.Fatalf("after %d: %v", kept, err)
			}
			for _, s := range page {
				if err := conn.Remove(t.Context(), dovetail.DeadLetterChannel("mail"), []string{s.Position}); err != nil {
					t.Fatal(err)
				}
			}
			kept += len(page)
			<-time.After(time.Minute)
			synctest.Wait()
		}
		if dead := svc.Stats().Dead; dead != sent {
			t.Errorf("%d dead letters were kept in the end, want %d", dead, sent)
		}
		good := &driver.Message{Channel: welcome.Spec().Channel.Name, ID: "good", Type: welcome.Spec().Type(), Body: []byte("{}")}
		if err := conn.Send(t.Context(), []*driver.Message{good}); err != nil {
			t.Fatal(err)
		}
		<-time.After(time.Minute)
		synctest.Wait()
		stop()
		lines := strings.Count(log.String(), "\n")
		if lines > 60 || !strings.Contains(log.String(), "dead letters pile up") || !strings.Contains(log.String(), "raise the channel's bound") || !strings.Contains(log.String(), "count=") {
			t.Errorf("%d lines of %d dead letters:\n%s", lines, sent, log.String()[:min(log.Len(), 4000)])
		}
		if handled != 1 {
			t.Errorf("%d messages were handled behind them, want 1", handled)
		}
	})
}
