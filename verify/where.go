package verify

import (
	"context"
	"errors"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// whereTime bounds how long channels are read for what was lost.
const whereTime = 30 * time.Second

// where says of each lost message whether its channel still has it. A message that the
// broker has was not delivered, or settled without an effect; one that it does not have
// was not stored, or deleted. Where the transport does not show what is in a channel,
// or there is too much, it says nothing.
func (r *run) where(ctx context.Context, findings []Finding) {
	if r.letters == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, whereTime)
	defer cancel()
	lost := map[string]map[string]bool{} // whether it is there, by channel and id
	for _, f := range findings {
		if channel := r.channelOf(f); channel != "" {
			if lost[channel] == nil {
				lost[channel] = map[string]bool{}
			}
			lost[channel][f.ID] = false
		}
	}
	for channel, ids := range lost {
		if err := readChannel(ctx, r.letters.browser, channel, ids); err != nil {
			delete(lost, channel)
		}
	}
	for i, f := range findings {
		there, known := lost[r.channelOf(f)][f.ID]
		switch {
		case known && there:
			findings[i].Text += "; its channel has it"
		case known:
			findings[i].Text += "; its channel does not have it"
		}
	}
}

// channelOf is the channel of a lost message, "" for other findings.
func (r *run) channelOf(f Finding) string {
	if f.Kind != Lost {
		return ""
	}
	switch p := pathOf(PathOf(f.Key)); {
	case p == nil:
		return eventName(r.id)
	case p.foreign:
		return "" // its messages have no ids
	}
	return sharedName(r.id)
}

// readChannel notes which of the ids a channel has.
func readChannel(ctx context.Context, b driver.Browser, channel string, ids map[string]bool) error {
	for after := ""; ; {
		page, err := b.Browse(ctx, channel, after, 1000)
		if err = errors.Join(err, ctx.Err()); err != nil || len(page) == 0 {
			return err
		}
		for _, s := range page {
			after = s.Position
			if _, lost := ids[s.Message.ID]; lost {
				ids[s.Message.ID] = true
			}
		}
	}
}
