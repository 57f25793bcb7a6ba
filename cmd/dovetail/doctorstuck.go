package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/dovetail-go/dovetail/outbox"
)

// channels looks for what is kept, and for what waits where nobody takes it.
func (d *doctor) channels(ctx context.Context, conn driver.Conn) {
	l, ok := conn.(driver.Lister)
	if !ok {
		d.say("broker: channels", skipped, "this transport cannot list them", "")
		return
	}
	ctx, cancel := context.WithTimeout(ctx, d.a.timeout)
	defer cancel()
	all, err := l.Channels(ctx)
	if errors.Is(err, driver.ErrUnsupported) {
		d.say("broker: channels", skipped, err.Error(), "")
		return
	}
	if err != nil {
		d.say("broker: channels", broken, err.Error(), remedyOf(conn.Classify(err)))
		return
	}
	var waiting int64
	for _, c := range all {
		d.letters(c)
		if c.Messages > 0 && len(c.Groups) == 0 && receives(c.Channel.Name) {
			d.say("broker: channel "+c.Channel.Name, warning, fmt.Sprintf("has %d messages, and no service receives from it", c.Messages),
				"start the service that handles them; dovetail topology remove "+c.Channel.Name+" --force deletes them with the channel")
		}
		for _, g := range c.Groups {
			waiting += max(0, g.Backlog) + max(0, g.Pending)
		}
	}
	d.say("broker: channels", fine, fmt.Sprintf("%d, with %d messages that wait for a group", len(all), waiting), "")
	d.still(ctx, l, all)
}

// letters says what a channel keeps of what could not be handled.
func (d *doctor) letters(c driver.ChannelInfo) {
	service, keeps := dovetail.KeepsFor(c.Channel.Name)
	switch {
	case !keeps || c.Messages == 0:
	case c.Channel.Name == dovetail.DeadLetterChannel(service):
		d.say("dead letters", warning, "service "+service+" has "+countOf(c.Messages),
			"dovetail dead list --service "+service+" says why; dovetail dead requeue or discard empties the channel, which takes no more once it is full")
	default:
		d.say("waiting", warning, fmt.Sprintf("service %s has %s of a type that none of its instances handled", service, countOf(c.Messages)),
			"start a version that handles it: they go there by themselves; dovetail dead list --service "+service+" shows them")
	}
}

func countOf(n int64) string {
	if n < 0 {
		return "some"
	}
	return fmt.Sprint(n)
}

// receives reports whether somebody should receive from a channel of that name:
// not where letters are kept.
func receives(name string) bool {
	_, keeps := dovetail.KeepsFor(name)
	return !keeps && !strings.HasPrefix(name, dovetail.ReplyPrefix) && !strings.HasPrefix(name, "unhandled.")
}

// stillFor is how far two looks at the groups are apart.
const stillFor = 2 * time.Second

// still looks a second time at groups for which messages wait: those that get no
// nearer to the end.
func (d *doctor) still(ctx context.Context, l driver.Lister, first []driver.ChannelInfo) {
	before := map[[2]string]driver.GroupInfo{}
	for _, c := range first {
		for _, g := range c.Groups {
			if g.Backlog > 0 {
				before[[2]string{c.Channel.Name, g.Name}] = g
			}
		}
	}
	if len(before) == 0 || !backoff.Sleep(ctx, stillFor) {
		return
	}
	again, err := l.Channels(ctx)
	if err != nil {
		return // it could be listed a moment ago
	}
	for _, c := range again {
		for _, g := range c.Groups {
			if was, waited := before[[2]string{c.Channel.Name, g.Name}]; waited && g.Backlog >= was.Backlog {
				d.say("broker: group "+g.Name+" of "+c.Channel.Name, warning,
					fmt.Sprintf("%d messages wait, and there were %d of them %v ago; %s in hand", g.Backlog, was.Backlog, stillFor, countOf(g.Pending)),
					"start the service, or more instances of it; where it runs, its log and Service.Stuck say what it waits for")
			}
		}
	}
}

// outbox says what is not published, and what was set aside.
func (d *doctor) outbox(ctx context.Context, db database) {
	var backlog, held, later int64
	var oldest time.Time
	for shard := range db.Shards() {
		s, err := db.Stats(ctx, shard)
		if err != nil {
			d.say("outbox", broken, err.Error(), storeRemedy)
			return
		}
		backlog, held, later = backlog+s.Backlog, held+s.Held, later+s.Later
		if oldest.IsZero() || !s.Oldest.IsZero() && s.Oldest.Before(oldest) {
			oldest = s.Oldest
		}
	}
	detail := fmt.Sprintf("backlog %d, held %d, for later %d", backlog, held, later)
	if !oldest.IsZero() && time.Since(oldest) > longAgo {
		d.say("outbox", warning, detail+", the oldest for "+time.Since(oldest).Round(time.Second).String(),
			"no relay publishes it, or the broker refuses: run the service, or dovetail relay, and look at its log")
	} else {
		d.say("outbox", fine, detail, "")
	}
	if held == 0 {
		return
	}
	found, _, err := outbox.FindHeld(ctx, db, outbox.HeldFilter{}, 1)
	if err != nil {
		d.say("outbox: held", broken, err.Error(), storeRemedy)
		return
	}
	why := ""
	if len(found) > 0 {
		why = fmt.Sprintf(", the first on channel %s after %d attempts: %s", found[0].Lane.Channel, found[0].Lane.Attempts, found[0].Lane.Error)
	}
	d.say("outbox: held", warning, fmt.Sprintf("%d messages are set aside, with their keys%s", held, why),
		"dovetail outbox held says why of each; edit or discard what cannot be sent; dovetail outbox retry has them tried at once")
}
