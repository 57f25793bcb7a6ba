package dovetail

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// errUnhandled is why a message waits that no handler has seen.
var errUnhandled = errors.New("no handler of this instance takes this type")

// UnhandledChannel is where messages of one type wait for an instance of the
// service that handles them, after they reached one that does not. Each group
// has its own.
func UnhandledChannel(service, group, wire string) string {
	h := sha256.New()
	for _, part := range []string{group, wire} {
		var n [8]byte
		binary.BigEndian.PutUint64(n[:], uint64(len(part)))
		h.Write(n[:])
		h.Write([]byte(part))
	}
	return unhandledPrefix + service + "." + hex.EncodeToString(h.Sum(nil)[:8])
}

// KeepsFor returns the service to which a channel of dead letters (DeadLetterChannel)
// or of waiting messages (UnhandledChannel) belongs. ok is false for other channels.
func KeepsFor(channel string) (service string, ok bool) {
	if service, ok := strings.CutPrefix(channel, DeadLetterChannel("")); ok {
		return service, true
	}
	rest, ok := strings.CutPrefix(channel, unhandledPrefix)
	if !ok {
		return "", false
	}
	i := strings.LastIndexByte(rest, '.')
	if i < 1 || len(rest)-i-1 != 16 {
		return "", false
	}
	return rest[:i], true
}

// maxWaitingChannels bounds how many waiting channels a process makes, however
// many types a stranger invents.
const maxWaitingChannels = 32

// waitingChannels are those that this process has sent letters to.
type waitingChannels struct {
	mu     sync.Mutex
	made   map[string]bool      // name → it is provisioned
	failed map[string]time.Time // when it could not be provisioned
}

// provisionAgain is how long after one attempt at provisioning a waiting channel
// the next may follow: other letters and answers get their turn between.
const provisionAgain = 5 * time.Second

// name returns the waiting channel of a group and type, and false where the
// dead-letter channel takes its place.
func (w *waitingChannels) name(service, group, wire string) (channel string, ok bool) {
	if group == "" || wire == "" {
		return "", false
	}
	channel = UnhandledChannel(service, group, wire)
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.made[channel]; !known {
		if len(w.made) == maxWaitingChannels {
			return "", false
		}
		if w.made == nil {
			w.made = make(map[string]bool)
		}
		w.made[channel] = false
	}
	return channel, true
}

// due reports whether a channel is to be provisioned now.
func (w *waitingChannels) due(channel string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !w.made[channel] && time.Since(w.failed[channel]) >= provisionAgain
}

func (w *waitingChannels) noteFailure(channel string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = make(map[string]time.Time)
	}
	w.failed[channel] = time.Now()
}

func (w *waitingChannels) note(channel string, provisioned bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, known := w.made[channel]; known {
		w.made[channel] = provisioned
	}
}

// waits reports whether t, which no handler takes, is kept until an instance
// comes that handles it. Elsewhere it is another's part of a shared channel, or
// nothing is promised to those who do not listen.
func (b *groupConsumer) waits(t *item) bool {
	switch {
	case t.letter: // it waited before
		return true
	case b.channel.Transient || b.broadcast:
		return false
	case b.channel.Kind == driver.PointToPoint || t.in.Message.Type == "":
		return true
	}
	return b.names[contractName(t.in.Message.Type)]
}

// contractName is a message type without its version.
func contractName(wire string) string {
	i := strings.LastIndex(wire, ".v")
	if i < 0 || strings.Trim(wire[i+2:], "0123456789") != "" {
		return wire
	}
	return wire[:i]
}

// classifyUnhandled decides what becomes of a message that no handler takes.
func (b *groupConsumer) classifyUnhandled(t *item) {
	t.err = errUnhandled
	if b.waits(t) {
		t.result = resultForward
		return
	}
	t.result = resultPass
	b.s.notice(Notice{Kind: NoticeUnhandled, Channel: b.channel.Name, Group: b.group, Message: t.in.Message})
}

// forward makes t the letter that waits for an instance that handles it.
func (b *groupConsumer) forward(t *item) *driver.Message {
	d := DeadLetter{
		Message: t.in.Message, Service: b.s.name, Group: t.in.Group, Handler: t.in.Handler, Cause: CauseUnhandled,
		Error: errUnhandled.Error(), Requeues: t.in.Requeues, At: now(), token: t.in.token,
	}
	if t.rare != nil {
		d.Cut, d.Body = t.rare.cut, t.rare.cutBody
	}
	channel, ok := b.s.waiting.name(b.s.name, d.Group, d.Handler)
	if !ok {
		channel = DeadLetterChannel(b.s.name)
	}
	return d.encode(channel)
}

// provisionWaiting makes the waiting channels exist that letters go to. Where
// the broker refuses one, its letters go to the dead-letter channel.
func (s *Service) provisionWaiting(ctx context.Context, cs []outgoing) {
	timed, cancel := context.WithTimeout(ctx, completionTimeout)
	defer cancel()
	for i := range cs {
		channel := cs[i].m.Channel
		if !cs[i].letter || !strings.HasPrefix(channel, unhandledPrefix) || !s.waiting.due(channel) {
			continue
		}
		sub, mark := s.waitingSubscription(channel), s.waitingSubscription(waitingMark(s.name))
		err := s.conn.Provision(timed, []driver.Channel{sub.Channel, mark.Channel}, []driver.Subscription{sub, mark})
		switch {
		case err == nil:
			s.waiting.note(channel, true)
		case ctx.Err() == nil && !s.isRetryable(err):
			s.notice(Notice{Kind: NoticeSettle, Channel: channel, Err: fmt.Errorf("provision the waiting channel, in whose place the dead-letter channel is used: %w", err)})
			m := *cs[i].m
			m.Channel = DeadLetterChannel(s.name)
			cs[i].m = &m
		default:
			s.waiting.noteFailure(channel)
		}
	}
}

// waitingSubscription is the service's interest in one of its waiting channels.
func (s *Service) waitingSubscription(channel string) driver.Subscription {
	return driver.Subscription{
		Channel: driver.Channel{Name: channel}, Group: s.name, Instance: s.opts.Instance,
		Window: requeueWindow, WindowBytes: s.opts.WindowBytes,
	}
}
