package dovetail

import (
	"maps"
	"slices"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

// Uses returns what the service does with which channels, from its declarations
// alone, sorted by name: those of its contracts, and those that it has beside
// them. From it the rights are derived that the service needs: encoded as JSON
// it is what the command "dovetail topology --rights" reads. It is the same for
// all instances.
func (s *Service) Uses() []driver.Use {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := uses{}
	for _, spec := range sortedSends(*s.sends.Load()) {
		u.of(spec.Channel).Sends = true
	}
	s.ownUses(u)
	all := make([]driver.Use, 0, len(u))
	for _, name := range slices.Sorted(maps.Keys(u)) {
		slices.Sort(u[name].Groups)
		u[name].Groups = slices.Compact(u[name].Groups)
		all = append(all, *u[name])
	}
	return all
}

// uses are collected by the name of the channel.
type uses map[string]*driver.Use

// of returns the use of a channel that the service makes.
func (u uses) of(c driver.Channel) *driver.Use {
	one := u[c.Name]
	if one == nil {
		one = &driver.Use{Channel: c, Makes: true}
		u[c.Name] = one
	}
	one.Channel.Partitions = max(one.Channel.Partitions, c.Partitions)
	return one
}

// ownUses adds everything that is not a declared contract's sending: what the
// topology has, waiting channels, replies. A channel that a service comes to
// have for itself is added here.
func (s *Service) ownUses(u uses) {
	t := s.topology()
	for _, sub := range t.Subscriptions {
		one := u.of(sub.Channel)
		one.Groups = append(one.Groups, sub.Group)
	}
	for _, c := range t.Channels {
		if one := u.of(c); c.Name == DeadLetterChannel(s.name) {
			one.Sends = true
		}
	}
	r := &run{s: &Service{name: s.name, opts: s.opts, caps: s.caps, subs: s.subs}}
	r.groups()
	if r.sharesKeys() {
		keys := u.of(keysOf(s.name))
		keys.Sends, keys.Broadcasts = true, []string{s.name}
	}
	for _, b := range r.consumers {
		one := u.of(b.channel)
		if group, _, broadcast := strings.Cut(b.group, broadcastMark); broadcast {
			one.Broadcasts = append(one.Broadcasts, group)
		}
		s.replyUses(u, b)
	}
	if waiting := r.wanted(); len(waiting) > 0 {
		mark := u.of(driver.Channel{Name: waitingMark(s.name)})
		mark.Looks, mark.Groups = true, []string{s.name}
		for _, name := range waiting {
			one := u.of(driver.Channel{Name: name})
			one.Sends, one.Groups = true, []string{s.name}
		}
	}
	replies := u.of(driver.Channel{Name: ReplyPrefix + s.name + ".", Transient: true})
	replies.Prefix, replies.Groups = true, []string{s.name}
}

// replyUses adds the channels on which others await what b answers.
func (s *Service) replyUses(u uses, b *groupConsumer) {
	prefix := func(name string, transient bool) {
		u[name] = &driver.Use{Channel: driver.Channel{Name: name, Transient: transient}, Prefix: true, Sends: true}
	}
	for _, sub := range b.subs {
		switch sub.spec.Kind {
		case KindSurvey:
			prefix(answersPrefix, false)
			prefix(ReplyPrefix, true)
		case KindCall:
			prefix(ReplyPrefix, true)
		}
	}
}
