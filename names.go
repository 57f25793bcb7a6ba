package dovetail

import (
	"fmt"
	"slices"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

// Names of the channels that a service has beside those of its contracts. Each
// begins with a reserved word, which no contract, channel or service may begin
// with, so that a derived name is never a declared one.

// ReplyPrefix begins the names of the transient channels on which instances
// await replies.
const ReplyPrefix = "reply."

// unhandledPrefix begins the names of waiting channels.
const unhandledPrefix = "unhandled."

// waitingMark is the channel that exists once a waiting channel of a service
// does, so that whoever looks for them has one look-up while there are none.
// Nothing is sent to it.
func waitingMark(service string) string { return unhandledPrefix + service }

// DeadLetterChannel is where the dead letters of a service are kept.
func DeadLetterChannel(service string) string { return "dead." + service }

// RequeueChannel is where dead letters are sent to be handled again.
func RequeueChannel(service string) string { return "requeue." + service }

// keysChannel is where the instances of a service tell each other which keys they
// have letters of in hand. A service's name has no dot, and so it is no other
// service's requeue channel.
func keysChannel(service string) string { return RequeueChannel(service) + ".keys" }

const answersPrefix = "answers."

func answersChannel(service string) string { return answersPrefix + service }

func replyType(wire string) string { return wire + ".reply" }

// broadcastMark stands between a group's name and the instance's in the name of
// a broadcast group. No other name has it in it.
const broadcastMark = "._."

var reservedWords = []string{"answers", "dead", "reply", "requeue", "unhandled"}

// validName is driver.ValidName for what a program declares.
func validName(name string) error {
	if err := driver.ValidName(name); err != nil {
		return err
	}
	if word, _, _ := strings.Cut(name, "."); slices.Contains(reservedWords, word) {
		return fmt.Errorf("name %q: the word %q at its beginning is reserved for the channels that services have for themselves: choose another", name, word)
	}
	return nil
}

// validService takes names of services: without dots, so that the group of one
// service's subscription, "mail.audit", is never that of another service.
func validService(name, instance string) error {
	if err := validName(name); err != nil {
		return err
	}
	if strings.Contains(name, ".") {
		return fmt.Errorf("name %q has a dot, which stands between a service and a subscription's name in the names of groups: write %q",
			name, strings.ReplaceAll(name, ".", "-"))
	}
	for _, derived := range []string{UnhandledChannel(name, name, ""), ReplyPrefix + name + "." + instance, name + broadcastMark + instance} {
		if len(derived) > maxName {
			return fmt.Errorf("name %q is too long: %s, which is derived from it, has %d characters, and brokers take %d", name, derived, len(derived), maxName)
		}
	}
	return nil
}

// maxName is the longest name that driver.ValidName takes.
const maxName = 200

// validGroup returns an error unless Group names something that can be a group.
func (s *Service) validGroup(sub *subscription) error {
	if sub.as != "" {
		if err := driver.ValidName(sub.as); err != nil {
			return fmt.Errorf("Group: %w", err)
		}
		if strings.Contains("."+sub.as+".", broadcastMark) {
			return fmt.Errorf("Group(%q): the word \"_\" is reserved for the groups of broadcast subscriptions", sub.as)
		}
	}
	if g := s.group(sub); len(g) > maxName {
		return fmt.Errorf("group %s has %d characters, and brokers take %d: shorten the name in Group or Options.Instance", g, len(g), maxName)
	}
	return nil
}
