package inbox

import (
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

func TestEntry_ages_whatever_its_sender_wrote(t *testing.T) {
	now := time.Now()
	for _, c := range []struct{ due, since time.Time }{
		{time.Time{}, now},
		{now.Add(-time.Hour), now},
		{now.Add(time.Second), now.Add(time.Second)}, // another clock
		{time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), now.Add(time.Hour)},
	} {
		in := &dovetail.Delivery{Message: &driver.Message{ID: "1", Due: c.due}}
		if got := entryOf(in, now).Since; !got.Equal(c.since) {
			t.Errorf("due %v: its age counts from %v, want %v", c.due, got, c.since)
		}
	}
}
