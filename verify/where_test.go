package verify

import (
	"context"
	"slices"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
)

// Channels that can be looked into.
type shelves map[string][]driver.StoredMessage

func (s shelves) Browse(_ context.Context, channel, after string, most int) (page []driver.StoredMessage, _ error) {
	if s[channel] == nil {
		return nil, driver.ErrUnsupported
	}
	for _, m := range s[channel] {
		if m.Position > after && len(page) < most {
			page = append(page, m)
		}
	}
	return page, nil
}

func (shelves) Remove(context.Context, string, []string) error { return nil }

func TestRun_says_whether_the_channel_still_has_what_was_lost(t *testing.T) {
	r := &run{id: "r1"}
	r.letters = &letters{run: r, browser: shelves{eventName("r1"): {{Position: "1", Message: &driver.Message{ID: "a/0"}}, {Position: "2", Message: &driver.Message{ID: "b/0"}}}}}
	found := []Finding{
		{Kind: Lost, ID: "a/0", Key: "key-1", Text: "lost"},
		{Kind: Lost, ID: "c/0", Key: "key-1", Text: "lost"},
		{Kind: Double, ID: "b/0", Key: "key-1", Text: "double"},
		{Kind: Lost, ID: "d/0", Key: keyOf(slow, 1), Text: "lost"}, // on a channel that nobody can look into
	}
	r.where(t.Context(), found)
	var texts []string
	for _, f := range found {
		texts = append(texts, f.Text)
	}
	if want := []string{"lost; its channel has it", "lost; its channel does not have it", "double", "lost"}; !slices.Equal(texts, want) {
		t.Errorf("it says %q, want %q", texts, want)
	}
}
