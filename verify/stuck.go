package verify

import (
	"context"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// tellStill gives a checker what is still somewhere.
func (r *run) tellStill(ctx context.Context, c *Checker) (notes []string) {
	note := func(err error) {
		if err != nil {
			notes = append(notes, "what is stuck may be called lost: "+err.Error())
		}
	}
	held, waiting, err := r.books.unpublished(ctx)
	note(err)
	for _, id := range held {
		c.Still("", id, "held in the outbox")
	}
	if waiting > 0 {
		c.Waiting(r.fromOutbox(), waiting, "in the outbox")
	}
	conn, err := driver.Open(ctx, r.Broker)
	if err != nil {
		return append(notes, err.Error())
	}
	defer conn.Close(ctx)
	note(r.stillWaiting(ctx, conn, c))
	lister, ok := conn.(driver.Lister)
	if !ok {
		return append(notes, "what is stuck may be called lost: the transport does not list what its groups have before them")
	}
	channels, err := lister.Channels(ctx)
	note(err)
	for _, ch := range channels {
		for _, g := range ch.Groups {
			n := max(0, g.Backlog) + max(0, g.Pending)
			if groups := r.groupsOn(ch.Channel.Name, g.Name); n > 0 && len(groups) > 0 {
				c.Waiting(groups, n, "with the broker, on channel "+ch.Channel.Name)
			}
		}
	}
	return notes
}

// fromOutbox are the groups whose messages come from the outbox.
func (r *run) fromOutbox() (names []string) {
	for _, g := range r.groups {
		if p := pathOf(g.Path); p == nil || !p.foreign {
			names = append(names, g.Name)
		}
	}
	return names
}

// stillWaiting gives a checker what waits for an instance that handles version 2.
func (r *run) stillWaiting(ctx context.Context, conn driver.Conn, c *Checker) error {
	b, ok := conn.(driver.Browser)
	if !ok || !r.walks(versions) {
		return nil
	}
	j := r.job(job{})
	for _, e := range j.events(versions) {
		for _, service := range r.services() {
			channel := dovetail.UnhandledChannel(service, service, e.Spec().Type())
			for after := ""; ; {
				page, err := b.Browse(ctx, channel, after, 100)
				if k := conn.Classify(err); err != nil && (k == driver.NotFound || k == driver.Unsupported) {
					break
				}
				if err != nil {
					return err
				}
				if len(page) == 0 {
					break
				}
				for _, s := range page {
					after = s.Position
					if d, err := dovetail.ParseDeadLetter(s.Message); err == nil {
						c.Still(versions, d.Message.ID, "on channel "+channel+", where it waits for an instance with a handler")
					}
				}
			}
		}
	}
	return nil
}

// groupsOn are the groups of a run that a broker's group of a channel is for.
func (r *run) groupsOn(channel, group string) (names []string) {
	for _, g := range r.groups {
		p, service := pathOf(g.Path), r.service(g)
		on := sharedName(r.id)
		switch {
		case p == nil:
			on = eventName(r.id)
		case p.foreign:
			on = foreignName(r.id)
		}
		if g.Path == requeues && channel == dovetail.RequeueChannel(service) && group == service {
			names = append(names, g.Name) // that it is sent again on
		}
		// A broadcast group bears its instance's name behind the service's.
		if channel == on && (group == service || p != nil && p.alone && len(group) > len(service) && group[:len(service)] == service) {
			names = append(names, g.Name)
		}
	}
	return names
}

// service is the one that handles a group's messages.
func (r *run) service(g Group) string {
	if p := pathOf(g.Path); p == nil || p.alone {
		return groupName(r.id, g.Name)
	}
	return groupName(r.id, r.last().Name)
}
