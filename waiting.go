package dovetail

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
)

// Pace of the look-ups for waiting channels.
const (
	lookEvery      = 5 * time.Second       // at least
	lookPerHandler = 20 * time.Millisecond // of a service with many
	lookSooner     = 5                     // times as often, while
	lookRecent     = time.Minute           // one was found so lately
	listEvery      = time.Minute           // for a handler of any type
)

// A lookout receives from the waiting channels of what this instance handles, as
// soon as they exist.
type lookout struct {
	r       *run
	receive context.Context // ends when the service receives no more
	leases  context.Context
	keeping *sync.WaitGroup

	told   bool      // that a right is missing
	marked bool      // waiting channels exist, or did
	listed time.Time // when the channels were last listed

	mu    sync.Mutex
	open  map[string]*source // by channel
	found time.Time          // when one was last opened
}

// wanted are the waiting channels of everything that r handles.
func (r *run) wanted() (channels []string) {
	for _, b := range r.consumers {
		if b.channel.Transient || b.broadcast {
			continue
		}
		for wire := range b.subs {
			channels = append(channels, UnhandledChannel(r.s.name, b.group, wire))
		}
	}
	return channels
}

// run looks for waiting channels until the service receives no more.
func (l *lookout) run() {
	channels := l.r.wanted()
	if len(channels) == 0 {
		return
	}
	for {
		failed := l.look(channels)
		every := max(lookEvery, time.Duration(len(channels))*lookPerHandler)
		switch {
		case failed:
			every *= 2 // a broker that is away, or asks for a right that is not given, is not asked more often
		case !l.found.IsZero() && time.Since(l.found) < lookRecent:
			every /= lookSooner
		}
		if !backoff.Sleep(l.receive, every+time.Duration(rand.Int64N(int64(every)/4))) {
			return
		}
	}
}

// look opens the waiting channels that exist and are not open. It reports
// whether the broker failed to say.
func (l *lookout) look(channels []string) (failed bool) {
	if !l.marked {
		if err := l.exists(waitingMark(l.r.s.name)); err != nil {
			l.tell(waitingMark(l.r.s.name), err)
			return l.r.s.conn.Classify(err) != driver.NotFound
		}
		l.marked = true
	}
	for _, channel := range slices.Concat(channels, l.ofAnyType(channels)) {
		l.mu.Lock()
		_, open := l.open[channel]
		l.mu.Unlock()
		if open {
			continue
		}
		if l.receive.Err() != nil {
			return false
		}
		src := l.r.returning(l.r.s.waitingSubscription(channel))
		src.optional = true
		src.turn.L = &src.mu
		if err := src.open(l.receive, l.receive); err != nil {
			if l.r.s.conn.Classify(err) != driver.NotFound {
				l.tell(channel, err)
				failed = true
			}
			continue
		}
		l.start(src)
	}
	return failed
}

// tell says once that a right to look is missing: what waits is not found
// without it, and nobody else says so.
func (l *lookout) tell(channel string, err error) {
	if l.told || l.r.s.conn.Classify(err) != driver.Denied {
		return
	}
	l.told = true
	l.r.s.notice(Notice{Kind: NoticeReceive, Channel: channel, Group: l.r.s.name, Err: fmt.Errorf("look for waiting messages: %w", err)})
}

// ofAnyType are the waiting channels, beside those that are known, whose letters
// a handler of any type takes. Their names do not say of which type they are: the
// channels are listed, now and then, and a letter of each says it. Where the
// transport cannot list channels, there are none.
func (l *lookout) ofAnyType(known []string) (channels []string) {
	anyType := slices.ContainsFunc(l.r.consumers, func(b *groupConsumer) bool { return b.any != nil && !b.channel.Transient && !b.broadcast })
	lister, canList := l.r.s.conn.(driver.Lister)
	browser, canBrowse := l.r.s.conn.(driver.Browser)
	if !anyType || !canList || !canBrowse || time.Since(l.listed) < listEvery {
		return nil
	}
	l.listed = time.Now()
	all, err := lister.Channels(l.receive)
	if err != nil {
		return nil // it is asked again
	}
	for _, c := range all {
		if !strings.HasPrefix(c.Channel.Name, unhandledPrefix+l.r.s.name+".") || slices.Contains(known, c.Channel.Name) {
			continue
		}
		letters, err := browser.Browse(l.receive, c.Channel.Name, "", 1)
		if err != nil || len(letters) == 0 {
			continue
		}
		d, err := ParseDeadLetter(letters[0].Message)
		if err != nil || d.Service != l.r.s.name || c.Channel.Name != UnhandledChannel(d.Service, d.Group, d.Handler) {
			continue
		}
		if _, sub, _ := l.r.find(&d); sub != nil {
			channels = append(channels, c.Channel.Name)
		}
	}
	return channels
}

// exists returns an error unless a channel is there.
func (l *lookout) exists(channel string) error {
	conn := l.r.s.conn
	if b, ok := conn.(driver.Browser); ok {
		if _, err := b.Browse(l.receive, channel, "", 1); conn.Classify(err) != driver.Unsupported {
			return err
		}
	}
	r, err := conn.OpenReceiver(l.receive, l.r.s.waitingSubscription(channel))
	if err != nil {
		return err
	}
	return r.Close(l.receive)
}

// start receives from a waiting channel until the service receives no more, or
// the channel is gone.
func (l *lookout) start(src *source) {
	channel := src.sub.Channel.Name
	l.mu.Lock()
	l.open[channel], l.found = src, time.Now()
	l.mu.Unlock()
	watching, stopWatching := context.WithCancel(l.receive)
	leases, stopLeases := context.WithCancel(l.leases)
	l.keeping.Go(func() { src.extend(leases) })
	l.keeping.Go(func() { src.revoke(leases) })
	l.r.receiving.Go(func() { src.watch(watching) })
	l.r.receiving.Go(func() {
		defer stopWatching()
		err := src.run(l.receive)
		if err == nil || l.receive.Err() != nil {
			return
		}
		stopLeases()
		src.s.broker.back(src) // it tries no more: an outage ends without it
		src.notice(Notice{Kind: NoticeReceive, Err: err})
		src.sink.drop(src.own)
		closing, cancel := context.WithTimeout(context.WithoutCancel(l.receive), 5*time.Second)
		defer cancel()
		_ = src.close(closing) // it failed: its error says nothing new
		l.mu.Lock()
		delete(l.open, channel) // it is looked for again
		l.mu.Unlock()
	})
}

// sources are the open ones.
func (l *lookout) sources() (list []*source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, src := range l.open {
		list = append(list, src)
	}
	return list
}
