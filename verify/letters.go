package verify

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// letters are the dead letters of a run. It looks at them again and again, and
// sends those of path requeues again.
type letters struct {
	run     *run
	conn    driver.Conn
	browser driver.Browser

	mu       sync.Mutex
	kept     map[string]map[string]bool // group → ids of messages, as seen last
	requeued int
	err      error // of the last look
}

// lettersEvery is how often the dead letters are looked at.
const lettersEvery = time.Second

// canBrowse reports whether a transport shows what a channel holds.
func canBrowse(ctx context.Context, conn driver.Conn) bool {
	b, ok := conn.(driver.Browser)
	if !ok {
		return false
	}
	_, err := b.Browse(ctx, dovetail.DeadLetterChannel("verify"), "", 1)
	return err == nil || conn.Classify(err) != driver.Unsupported
}

// noLetters says why paths with dead letters cannot be walked.
func (r *run) noLetters() string {
	if r.letters == nil {
		return "it does not show what a channel holds"
	}
	return ""
}

// watch looks until ctx ends.
func (l *letters) watch(ctx context.Context) {
	for pause(ctx, lettersEvery) {
		l.look(context.WithoutCancel(ctx))
	}
}

// look reads all dead letters of the run.
func (l *letters) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	kept := map[string]map[string]bool{}
	var errs []error
	for _, s := range l.run.services() {
		if err := l.read(ctx, s, kept); err != nil && l.conn.Classify(err) != driver.NotFound {
			errs = append(errs, err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err = errors.Join(errs...); l.err == nil {
		l.kept = kept
	}
}

// lookPatience is how long the last look may take: a connection that was cut may
// still hold a channel for a moment.
const lookPatience = time.Minute

// lookWell looks until nothing is in the way that passes.
func (l *letters) lookWell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	for {
		l.look(ctx)
		if _, err := l.last(); err == nil || l.conn.Classify(err) != driver.Retryable || !pause(ctx, lettersEvery/4) {
			return
		}
	}
}

// read reads those of one service.
func (l *letters) read(ctx context.Context, service string, kept map[string]map[string]bool) error {
	channel := dovetail.DeadLetterChannel(service)
	for after := ""; ; {
		page, err := l.browser.Browse(ctx, channel, after, 100)
		if err != nil || len(page) == 0 {
			return err
		}
		var again []*driver.Message
		var positions []string
		for _, s := range page {
			after = s.Position
			d, err := dovetail.ParseDeadLetter(s.Message)
			if err != nil {
				return fmt.Errorf("verify: channel %s: %w", channel, err)
			}
			if PathOf(d.Message.Key) == requeues {
				again, positions = append(again, d.Requeue()), append(positions, s.Position)
			}
			group := l.run.groupOf(service, d.Message.Key)
			if kept[group] == nil {
				kept[group] = map[string]bool{}
			}
			kept[group][d.Message.ID] = true
		}
		if len(again) == 0 {
			continue
		}
		if err := l.conn.Send(ctx, again); err != nil {
			return err // they are sent again under the same ids
		}
		if err := l.browser.Remove(ctx, channel, positions); err != nil {
			return err
		}
		l.mu.Lock()
		l.requeued += len(again)
		l.mu.Unlock()
	}
}

// counts are how many messages each group has among the dead letters that belong
// there. One that its handler can handle may have an effect as well, and would stand
// for another.
func (l *letters) counts() map[string]int64 {
	all := map[string]int64{}
	if l == nil {
		return all
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for group, ids := range l.kept {
		for id := range ids {
			if strings.HasSuffix(id, badMark) {
				all[group]++
			}
		}
	}
	return all
}

// last is how many were sent again, and what was wrong with the last look.
func (l *letters) last() (requeued int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.requeued, l.err
}

// tell gives a checker what is kept.
func (l *letters) tell(c *Checker) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for group, ids := range l.kept {
		for id := range ids {
			c.Kept(group, id)
		}
	}
}

// services are those of the consumers.
func (r *run) services() (names []string) {
	for _, g := range r.groups {
		if g.Path == "" || g.Path == broadcast {
			names = append(names, groupName(r.id, g.Name))
		}
	}
	return names
}

// groupOf is the group that a service handles a key's messages in.
func (r *run) groupOf(service, key string) string {
	if name := PathOf(key); name != "" {
		return name
	}
	for _, g := range r.groups {
		if groupName(r.id, g.Name) == service {
			return g.Name
		}
	}
	return ""
}

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
