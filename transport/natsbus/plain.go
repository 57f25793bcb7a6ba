package natsbus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
)

// plainWindow bounds the messages of a Send that await confirmation at a time
// where the server takes no fast batches.
const plainWindow = 512

// A plain sends messages one by one: a single message, or a batch to a server
// before 2.14. The server may refuse one of several messages and take the next
// (measured under back-pressure: 3,605 of 5,000 out of order), so that of each
// key one message at a time is under way: a batch goes in waves, and what
// follows a failed message of its key is not sent.
type plain struct {
	s     *sending
	st    *channelState
	index []int
	sent  int // how many of index were sent or given up, all waves together
	token string

	wave   []int // indexes of the wave under way
	failed map[string]error

	mu      sync.Mutex
	results []answerTo
	left    int
	wake    chan struct{}
}

type answerTo struct {
	done bool
	err  error
}

func newPlain(s *sending, g group) *plain {
	return &plain{s: s, st: g.st, index: g.index, wake: make(chan struct{}, 1)}
}

func (p *plain) start(ctx context.Context) {
	p.token = p.s.c.acks.open(p)
	p.launch(ctx)
}

func (p *plain) finish(ctx context.Context) {
	defer p.s.c.acks.close(p.token)
	for {
		p.await(ctx)
		p.collect(ctx)
		if p.sent == len(p.index) {
			return
		}
		p.launch(ctx)
	}
}

// launch publishes the next wave: messages up to the window, up to the second
// of a key.
func (p *plain) launch(ctx context.Context) {
	p.wave = p.wave[:0]
	first := p.sent
	var keys map[string]struct{}
	if len(p.index) > 1 {
		keys = make(map[string]struct{}, min(plainWindow, len(p.index)-p.sent))
	}
	for p.sent < len(p.index) && p.sent-first < plainWindow {
		key := p.s.messages[p.index[p.sent]].Key
		if _, twice := keys[key]; twice && key != "" {
			break
		}
		if keys != nil && key != "" {
			keys[key] = struct{}{}
		}
		p.wave = append(p.wave, p.index[p.sent])
		p.sent++
	}
	p.mu.Lock()
	p.results = append(p.results[:0], make([]answerTo, len(p.wave))...)
	p.left = len(p.wave)
	p.mu.Unlock()
	for n, i := range p.wave {
		m := p.s.messages[i]
		if err := p.failed[m.Key]; err != nil {
			p.resolve(n, fmt.Errorf("natsbus: send to %s: %w: an earlier message of key %q was not confirmed: %w", p.st.name, driver.ErrRetryable, m.Key, err), false)
			continue
		}
		unfit, err := p.s.publish(i, p.st, p.s.c.acks.prefix+p.token+"."+strconv.Itoa(first+n), true)
		if unfit != nil {
			p.resolve(n, unfit, false)
		} else if err != nil {
			p.resolve(n, translate("send to "+p.st.name, err), !notWritten(err))
		}
	}
}

// resolve records a message of the wave as failed without an answer.
func (p *plain) resolve(n int, err error, unknown bool) {
	i := p.wave[n]
	p.s.fail(i, err, unknown)
	p.stopKey(i, err)
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.results[n].done {
		p.results[n].done = true
		p.left--
	}
}

func (p *plain) stopKey(i int, err error) {
	key := p.s.messages[i].Key
	if key == "" || errors.Is(err, driver.ErrTooLarge) || len(p.index) == 1 {
		return
	}
	if p.failed == nil {
		p.failed = map[string]error{}
	}
	p.failed[key] = err
}

// answer implements flight.
func (p *plain) answer(rest string, m *nats.Msg) {
	at, err := strconv.Atoi(rest)
	if err != nil {
		return
	}
	err = failureOf(p.st.name, m)
	p.mu.Lock()
	defer p.mu.Unlock()
	n := at - (p.sent - len(p.results)) // earlier waves have ended
	if n < 0 || n >= len(p.results) || p.results[n].done {
		return
	}
	p.results[n] = answerTo{true, err}
	if p.left--; p.left == 0 {
		select {
		case p.wake <- struct{}{}:
		default:
		}
	}
}

// await waits until each message of the wave has its answer, the link is lost,
// or nothing comes any more.
func (p *plain) await(ctx context.Context) {
	timer := time.NewTimer(p.s.c.opts.Timeout)
	defer timer.Stop()
	link := linkWatch{p.s.c, p.s.epoch, p.s.c.linkEvent(), p.s.began}
	why := link.ended("send to "+p.st.name, p.st.name+".")
	for why == nil {
		p.mu.Lock()
		left := p.left
		p.mu.Unlock()
		if left == 0 {
			return
		}
		select {
		case <-p.wake:
		case <-ctx.Done():
			why = translate("send to "+p.st.name, ctx.Err())
		case <-link.event:
			why = link.ended("send to "+p.st.name, p.st.name+".")
		case <-timer.C:
			why = fmt.Errorf("natsbus: send to %s: %w: no answer within %v", p.st.name, driver.ErrRetryable, p.s.c.opts.Timeout)
		}
	}
	for n := range p.wave {
		p.mu.Lock()
		done := p.results[n].done
		p.mu.Unlock()
		if !done {
			p.resolve(n, why, !errors.Is(why, driver.ErrDenied))
		}
	}
}

// collect turns the wave's refusals into failures.
func (p *plain) collect(ctx context.Context) {
	for n, i := range p.wave {
		p.mu.Lock()
		err := p.results[n].err
		p.mu.Unlock()
		if err == nil {
			continue
		}
		if errors.Is(err, nats.ErrNoResponders) {
			err = p.s.c.unanswered(ctx, p.st)
		}
		p.s.fail(i, err, false)
		p.stopKey(i, err)
	}
}
