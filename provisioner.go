package dovetail

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
)

// A provisioner makes the service's topology exist. All who need it wait for one
// provisioning, and each leaves when its own context ends. Provisionings that
// fail, or that are asked for again at once, follow each other ever more slowly.
type provisioner struct {
	wanted   atomic.Uint64 // grows when what is to exist changes, or was lost
	made     atomic.Uint64 // wanted, when the last provisioning that succeeded began
	declared atomic.Uint64 // grows when what is to exist changes

	mu   sync.Mutex
	call *provisioning // under way; nil for none
	of   uint64        // declared, when the last one began
	row  int           // how many followed each other closely
	next time.Time     // when the next may begin
	err  error         // of the last
}

// A provisioning is one call of the transport.
type provisioning struct {
	done   chan struct{}
	err    error // once done
	cancel context.CancelFunc
}

// provisioned reports whether everything exists, as far as is known.
func (s *Service) provisioned() bool { return s.topo.made.Load() == s.topo.wanted.Load() }

// changed says that what is to exist has changed.
func (p *provisioner) changed() {
	p.declared.Add(1)
	p.wanted.Add(1)
}

// provision makes the channels exist that the service sends to, before the first send.
// While Run runs it also makes those that the service receives from: a broker that
// lost the one may have lost the others.
func (s *Service) provision(ctx context.Context) error {
	for !s.provisioned() {
		if err := s.topo.join(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// Provision makes the channels exist that the service sends to, also those that
// the broker has lost since. Run does it by itself; relays call it when the
// broker does not know a channel. It returns a retryable error without trying if
// that was done a moment ago.
func (s *Service) Provision(ctx context.Context) error {
	p := &s.topo
	p.mu.Lock()
	if p.call == nil {
		if left := p.pause(); left > 0 && s.provisioned() {
			p.mu.Unlock()
			return fmt.Errorf("provision what %s sends: done a moment ago, to be done again in %v at the earliest: %w", s.name, left, driver.ErrRetryable)
		}
		p.wanted.Add(1)
	}
	p.mu.Unlock()
	return p.join(ctx, s)
}

// join waits for the provisioning that is under way, or for one that it begins
// once it may.
func (p *provisioner) join(ctx context.Context, s *Service) error {
	for {
		p.mu.Lock()
		c, why := p.call, p.err
		pause := time.Duration(0)
		if c == nil {
			if pause = p.pause(); pause <= 0 {
				c = p.begin(s)
			}
		}
		p.mu.Unlock()
		switch {
		case c != nil:
			select {
			case <-c.done:
				return c.err
			case <-ctx.Done():
			}
		case why != nil && !s.isRetryable(why):
			return why
		case backoff.Sleep(ctx, pause):
			continue
		}
		if why != nil {
			return fmt.Errorf("%w: the last attempt: %w", ctx.Err(), why)
		}
		return fmt.Errorf("provision what %s sends: %w", s.name, ctx.Err())
	}
}

// pause is how long it is until the next provisioning may begin. p.mu is held.
func (p *provisioner) pause() time.Duration {
	left := time.Until(p.next)
	if of := p.declared.Load(); p.of != of || -left > reopenPolicy.Max {
		p.of, p.row = of, 0
		return 0
	}
	return left
}

// begin begins a provisioning. p.mu is held.
func (p *provisioner) begin(s *Service) *provisioning {
	ctx, cancel := context.WithCancel(context.Background())
	c := &provisioning{done: make(chan struct{}), cancel: cancel}
	p.call = c
	go func() {
		defer cancel()
		wanted := p.wanted.Load()
		t := s.needed()
		err := s.conn.Provision(ctx, t.Channels, t.Subscriptions)
		if err != nil {
			err = fmt.Errorf("provision what %s sends: %w", s.name, err)
		}
		p.end(c, wanted, err)
	}()
	return c
}

// end ends the provisioning of what was wanted.
func (p *provisioner) end(c *provisioning, wanted uint64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.call, p.err = nil, err
	p.row++
	p.next = time.Now().Add(sendPolicy.Wait(p.row))
	if err == nil {
		p.made.Store(wanted)
	}
	c.err = err
	close(c.done)
}

// stop ends what is under way and waits for it.
func (p *provisioner) stop() {
	p.mu.Lock()
	c := p.call
	p.mu.Unlock()
	if c != nil {
		c.cancel()
		<-c.done
	}
}

// needed is what is to exist now.
func (s *Service) needed() (t Topology) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == running {
		t = s.topology()
		t.Channels = append(t.Channels, s.replies.channel)
		t.Subscriptions = append(t.Subscriptions, s.replies.subscription())
		return t
	}
	for _, spec := range sortedSends(*s.sends.Load()) {
		t.Channels = append(t.Channels, spec.Channel)
	}
	return t
}

// provisionAll makes everything exist that the service sends to and receives
// from, trying again while the broker is away.
func (s *Service) provisionAll(ctx context.Context) error {
	s.topo.wanted.Add(1)
	defer s.broker.back(&s.topo)
	for attempt := 1; ; attempt++ {
		err := s.provision(ctx)
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !s.isRetryable(err):
			return err
		}
		s.broker.away(&s.topo, s.conn.Classify(err), Notice{Kind: NoticeReceive, Attempt: attempt, Err: err})
	}
}
