package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
)

// letters are the dead letters of a run. It looks at them again and again, and
// sends those of path requeues again.
type letters struct {
	run     *run
	conn    driver.Conn
	browser driver.Browser

	mu       sync.Mutex
	kept     map[string]map[string]bool // group → ids of messages that stay there, as seen last
	requeued int
	err      error // of the last look

	wholly atomic.Bool // each look reads everything, where that is quick: the run waits for what is missing

	// Of the one that looks.
	after map[string]string // service → the position that was read last
	whole time.Time         // when everything was read last
	took  time.Duration     // to read everything
}

// lookQuickly is how long reading all dead letters may take for each look to do so: a
// look that is not done in its time has seen nothing.
const lookQuickly = 5 * time.Second

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
	for backoff.Sleep(ctx, lettersEvery) {
		l.look(context.WithoutCancel(ctx))
	}
}

// look reads the dead letters that came since the last look, and sends those of path
// requeues again. It reads all of them where that is quick, was not done for long, or
// is what the run waits for: a transport may sort a new one before others.
func (l *letters) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	from, kept := l.after, map[string]map[string]bool{}
	began := time.Now()
	whole := l.wholly.Load() && l.took < lookQuickly || began.Sub(l.whole) > 20*l.took
	if whole {
		from = nil
	} else {
		l.mu.Lock()
		for group, ids := range l.kept {
			kept[group] = maps.Clone(ids)
		}
		l.mu.Unlock()
	}
	l.readAll(ctx, from, kept, true)
	if whole {
		l.whole, l.took = time.Now(), time.Since(began)
	}
}

// readAll reads the dead letters of all services behind some positions.
func (l *letters) readAll(ctx context.Context, from map[string]string, kept map[string]map[string]bool, resend bool) {
	after := map[string]string{}
	var errs []error
	for _, s := range l.run.services() {
		last, err := l.read(ctx, s, from[s], kept, resend)
		if err != nil && l.conn.Classify(err) != driver.NotFound {
			errs = append(errs, err)
		}
		after[s] = last
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err = errors.Join(errs...); l.err == nil {
		l.kept, l.after = kept, after
	}
}

// lookPatience is how long the last look may take: there may be much to read, and a
// connection that was cut may still hold a channel for a moment.
const lookPatience = 5 * time.Minute

// lookWell reads all dead letters, until nothing is in the way that passes. The
// consumers have ended, so that it sends none again.
func (l *letters) lookWell(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookPatience)
	defer cancel()
	for {
		l.readAll(ctx, nil, map[string]map[string]bool{}, false)
		if _, err := l.last(); err == nil || l.conn.Classify(err) != driver.Retryable || !backoff.Sleep(ctx, lettersEvery/4) {
			return
		}
	}
}

// read reads those of one service behind a position, and returns the last position.
func (l *letters) read(ctx context.Context, service, after string, kept map[string]map[string]bool, resend bool) (string, error) {
	channel := dovetail.DeadLetterChannel(service)
	for {
		page, err := l.browser.Browse(ctx, channel, after, 100)
		if err != nil || len(page) == 0 {
			return after, err
		}
		var again []*driver.Message
		var positions []string
		for _, s := range page {
			after = s.Position
			d, err := dovetail.ParseDeadLetter(s.Message)
			if err != nil {
				return after, fmt.Errorf("verify: channel %s: %w", channel, err)
			}
			if resend && PathOf(d.Message.Key) == requeues {
				again, positions = append(again, d.Requeue()), append(positions, s.Position)
				continue
			}
			group := l.run.groupOf(service, d.Message.Key)
			if kept[group] == nil {
				kept[group] = map[string]bool{}
			}
			kept[group][letterID(d.Message)] = true
		}
		if len(again) == 0 {
			continue
		}
		if err := l.conn.Send(ctx, again); err != nil {
			return after, err // they are sent again under the same ids
		}
		if err := l.browser.Remove(ctx, channel, positions); err != nil {
			return after, err
		}
		l.mu.Lock()
		l.requeued += len(again)
		l.mu.Unlock()
	}
}

// letterID is the id of a message by which a checker knows it. A plain one came
// without an id.
func letterID(m *driver.Message) string {
	var n Note
	if PathOf(m.Key) != foreign || json.Unmarshal(m.Body, &n) != nil {
		return m.ID
	}
	return foreignID(n)
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
