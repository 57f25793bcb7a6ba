package rabbitbus

import (
	"context"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
)

// provisionAtOnce is how many channels or groups are provisioned at once. Each is
// some round trips, and a new quorum queue takes the server milliseconds.
const provisionAtOnce = 8

// Provision declares the queues and exchanges of channels and the queues of
// subscriptions, several at once. A subscription's channel is made along with it.
func (c *Conn) Provision(ctx context.Context, channels []driver.Channel, subscriptions []driver.Subscription) error {
	for _, s := range subscriptions {
		if err := c.validSubscription(s); err != nil {
			return err
		}
	}
	p := provisioning{asked: map[string][]driver.Channel{}, states: map[driver.Channel]*channelState{}}
	for _, ch := range channels {
		p.add(ch)
	}
	for _, s := range subscriptions {
		p.add(s.Channel)
	}
	err := each(len(p.names), func(i int) error {
		for _, ch := range p.asked[p.names[i]] {
			st, err := c.provisionChannel(ctx, ch)
			if err != nil {
				return err
			}
			p.made(ch, st)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = each(len(subscriptions), func(i int) error {
		s := subscriptions[i]
		switch st := p.states[s.Channel]; {
		case s.Broadcast, s.Channel.Transient && s.Channel.Kind == driver.PointToPoint:
			return nil
		case s.Channel.Kind == driver.PointToPoint:
			return c.noteGroup(ctx, st, s.Group)
		}
		return c.provisionGroup(ctx, s)
	})
	if err != nil {
		return err
	}
	if err := c.policed(ctx, p.queues(subscriptions)); err != nil {
		return translate("provision", err)
	}
	_, err = c.sub.session() // with nothing to do, too, a closed connection is an error
	return err
}

// A provisioning is what one call of Provision makes.
type provisioning struct {
	names  []string                    // of channels, in the order in which they were asked for
	asked  map[string][]driver.Channel // by name: one may be asked for in several ways, one after the other
	mu     sync.Mutex
	states map[driver.Channel]*channelState // nil until it is made
}

func (p *provisioning) add(ch driver.Channel) {
	if _, twice := p.states[ch]; twice {
		return
	}
	p.states[ch] = nil
	if p.asked[ch.Name] == nil {
		p.names = append(p.names, ch.Name)
	}
	p.asked[ch.Name] = append(p.asked[ch.Name], ch)
}

func (p *provisioning) made(ch driver.Channel, st *channelState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.states[ch] = st
}

// queues are those that hold what must not be lost.
func (p *provisioning) queues(subscriptions []driver.Subscription) (names []string) {
	for _, st := range p.states {
		if st.kind == driver.PointToPoint && !st.transient {
			names = append(names, partNames(st.name, st.partitions)...)
		}
	}
	for _, s := range subscriptions {
		if st := p.states[s.Channel]; st.kind == driver.PublishSubscribe && !st.transient && !s.Broadcast {
			names = append(names, groupQueues(s, st)...)
		}
	}
	return names
}

// each calls f for 0 to n-1, several at once. After an error no more are begun;
// that of the lowest is returned.
func each(n int, f func(i int) error) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		next  int
		first = n
		err   error
	)
	take := func() (i int, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		i = next
		next++
		return i, i < n && err == nil
	}
	for range min(n, provisionAtOnce) {
		wg.Go(func() {
			for i, ok := take(); ok; i, ok = take() {
				if e := f(i); e != nil {
					mu.Lock()
					if i < first {
						first, err = i, e
					}
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	return err
}
