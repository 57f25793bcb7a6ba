package backoff

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestSleep_ends_with_the_time_or_the_context(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if !Sleep(t.Context(), time.Minute) || time.Since(began) != time.Minute {
			t.Errorf("it ended early, after %v", time.Since(began))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began = time.Now()
		if Sleep(ctx, time.Minute) || time.Since(began) != time.Second {
			t.Errorf("it did not end with the context, but after %v", time.Since(began))
		}
	})
}

func TestDouble_has_bounds(t *testing.T) {
	for _, c := range []struct {
		attempt int
		want    time.Duration
	}{{-1, time.Second}, {0, time.Second}, {1, 2 * time.Second}, {3, 8 * time.Second}, {4, 10 * time.Second}, {63, 10 * time.Second}, {1 << 40, 10 * time.Second}} {
		if got := Double(c.attempt, time.Second, 10*time.Second); got != c.want {
			t.Errorf("attempt %d waits %v, want %v", c.attempt, got, c.want)
		}
	}
	if got := Double(5, 0, time.Second); got != 0 {
		t.Errorf("nothing, doubled, waits %v", got)
	}
	if got := Double(30, 1<<50, 1<<62); got != 1<<62 {
		t.Errorf("an overflow waits %v", got)
	}
}

func TestJitter_is_a_quarter_at_most(t *testing.T) {
	for range 1000 {
		if got := Jitter(time.Second); got < 750*time.Millisecond || got >= 1250*time.Millisecond {
			t.Fatalf("it waits %v", got)
		}
	}
	if got := Jitter(3); got != 3 {
		t.Errorf("a moment waits %d", got)
	}
}
