package dovetail

import (
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// Topology is what a service needs the broker to have: the channels it sends to
// and receives from, and its groups' interests in them.
type Topology struct {
	Channels      []driver.Channel
	Subscriptions []driver.Subscription
}

// Topology returns what Run provisions, from the declarations alone.
func (s *Service) Topology() Topology {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.topology()
}

func (s *Service) topology() (t Topology) {
	seen := make(map[string]int)
	channel := func(c driver.Channel) {
		if i, ok := seen[c.Name]; ok {
			t.Channels[i].Partitions = max(t.Channels[i].Partitions, c.Partitions)
			return
		}
		seen[c.Name] = len(t.Channels)
		t.Channels = append(t.Channels, c)
	}
	for _, spec := range sortedSends(*s.sends.Load()) {
		channel(spec.Channel)
	}
	r := &run{s: &Service{name: s.name, opts: s.opts, caps: s.caps, subs: s.subs}}
	r.groups()
	for _, b := range r.consumers {
		channel(b.channel)
		if !b.broadcast {
			t.Subscriptions = append(t.Subscriptions, b.subscription())
		}
	}
	if r.keepsDeadLetters() {
		channel(driver.Channel{Name: DeadLetterChannel(s.name)})
		requeue := driver.Channel{Name: RequeueChannel(s.name)}
		channel(requeue)
		t.Subscriptions = append(t.Subscriptions, driver.Subscription{
			Channel: requeue, Group: s.name, Instance: s.opts.Instance, Window: requeueWindow, WindowBytes: s.opts.WindowBytes})
	}
	if r.sharesKeys() {
		channel(keysOf(s.name))
	}
	return t
}

// conflicts returns what contradicts itself across registrations, or is more
// than the transport can do.
func (s *Service) conflicts() (errs []error) {
	users := make(map[string]Spec) // first of each channel
	check := func(spec Spec, c driver.Channel) {
		first, ok := users[c.Name]
		if !ok {
			users[c.Name] = spec
			return
		}
		if first.Channel.Kind != c.Kind {
			errs = append(errs, fmt.Errorf("channel %s: %s %s makes it %s and %s %s makes it %s: give them channels of their own with On",
				c.Name, first.Kind, first.Type(), first.Channel.Kind, spec.Kind, spec.Type(), c.Kind))
		}
		if first.Channel.Transient != c.Transient {
			errs = append(errs, fmt.Errorf("channel %s: %s and %s differ in AtMostOnce: declare both alike, or give them channels of their own with On", c.Name, first.Type(), spec.Type()))
		}
	}
	for _, spec := range sortedSends(*s.sends.Load()) {
		check(spec, spec.Channel)
	}
	for _, sub := range s.subs {
		if sub.wire == sub.spec.Type() {
			check(sub.spec, sub.channel)
		}
		if sub.ordered && !s.owned(sub.channel) {
			errs = append(errs, fmt.Errorf("%s is subscribed Ordered, which %s cannot give across instances: leave Ordered out and run one instance, or %s",
				sub.wire, s.caps.Name, s.ownersRemedy()))
		}
		if err := s.holdsTooLong(sub); err != nil {
			errs = append(errs, err)
		}
		if sub.broadcast && !s.caps.Broadcast {
			errs = append(errs, fmt.Errorf("%s is to reach every instance, which %s cannot do: leave Broadcast out, or use another transport for it", sub.wire, s.caps.Name))
		}
	}
	return errs
}

// holdsTooLong refuses a retry policy that holds a message for longer than the
// transport's engine lets it stay unsettled: it would be delivered again before
// its last attempt, again and again.
func (s *Service) holdsTooLong(sub *subscription) error {
	policy := s.opts.Retry
	if sub.retry != nil {
		policy = *sub.retry
	}
	limit, total := s.caps.AckTimeout, policy.longest()
	if limit <= 0 || total < limit || sub.channel.Transient {
		return nil
	}
	return fmt.Errorf("%s is tried again for up to %v in all, and %s takes a message back that is not settled within %v: choose fewer RetryPolicy.Attempts or a smaller RetryPolicy.Max, or raise that limit of the server and tell the transport",
		sub.wire, total.Round(time.Millisecond), s.caps.Name, limit)
}

func sortedSends(sends map[string]declared) []Spec {
	specs := make([]Spec, 0, len(sends))
	for _, d := range sends {
		specs = append(specs, d.Spec)
	}
	sortSpecs(specs)
	return specs
}
