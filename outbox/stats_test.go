package outbox_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/outbox"
)

func TestStats_tell_rate_age_and_what_a_crash_would_repeat(t *testing.T) {
	within(t, outbox.Options{CursorInterval: 5 * time.Second}, func(b *bench) {
		for i := range 50 {
			b.publish("stock", fmt.Sprint("k", i%5), fmt.Sprint(i))
		}
		b.pass(2 * time.Second)
		st := b.stats()
		if st.Published != 50 || st.Behind != 50 || st.Rate != 25 || st.Leading != 1 {
			b.Errorf("before the cursor moved: %+v", st)
		}
		if st.Backlog != 50 || st.Age < time.Second || st.Age > 3*time.Second {
			b.Errorf("before the cursor moved: backlog %d, the oldest %v old", st.Backlog, st.Age)
		}
		b.pass(5 * time.Second)
		if st = b.stats(); st.Behind != 0 || st.Backlog != 0 || st.Age != 0 || st.Rate < 5 || st.Rate > 10 {
			b.Errorf("after it moved: %+v", st)
		}
		b.pass(time.Minute)
		if st = b.stats(); st.Rate != 0 || st.Published != 50 {
			b.Errorf("a minute later: %+v", st)
		}
	})
}
