package dovetail_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// A sendRecorder keeps what is sent through it.
type sendRecorder struct{ sent []*driver.Message }

func (*sendRecorder) Name() string { return "shop" }

func (r *sendRecorder) Send(_ context.Context, messages []*driver.Message) error {
	r.sent = append(r.sent, messages...)
	return nil
}

func TestEach_gives_each_message_of_a_batch_its_own_options(t *testing.T) {
	event := dovetail.NewEvent[int]("shop.sold")
	due := time.Now().Add(time.Hour).UTC().Truncate(time.Microsecond)
	each := dovetail.Each(func(i int) []dovetail.SendOption {
		own := []dovetail.SendOption{dovetail.ID(fmt.Sprintf("sale-%d", i)), dovetail.Header("line", fmt.Sprint(i))}
		if i == 1 {
			own = append(own, dovetail.DeliverAt(due))
		}
		return own
	})
	var r sendRecorder
	if err := event.PublishAll(t.Context(), &r, []int{10, 11, 12}, dovetail.Header("file", "a"), each); err != nil {
		t.Fatal(err)
	}
	if err := event.Publish(t.Context(), &r, 13, each); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, m := range r.sent {
		got = append(got, fmt.Sprint(m.ID, " ", m.Headers.Get("file"), m.Headers.Get("line"), " ", len(m.Headers), " ", m.Due.Equal(due)))
	}
	for want, opts := range map[string][]dovetail.SendOption{
		"one id, x, for messages 0 and 1": {dovetail.Each(func(int) []dovetail.SendOption { return []dovetail.SendOption{dovetail.ID("x")} })},
		"Each within Each":                {dovetail.Each(func(int) []dovetail.SendOption { return []dovetail.SendOption{each} })},
		"Each has no function":            {dovetail.Each(nil)},
	} {
		if err := event.PublishAll(t.Context(), &r, []int{1, 2}, opts...); !errors.Is(err, dovetail.ErrInvalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if want := []string{"sale-0 a0 2 false", "sale-1 a1 2 true", "sale-2 a2 2 false", "sale-0 0 1 false"}; !slices.Equal(got, want) {
		t.Errorf("sent %q, want %q", got, want)
	}
}
