package driver

import (
	"fmt"
	"strings"
)

// ValidName returns an error unless name can be a channel's or a group's name
// on every transport: 1 to 200 characters, lower-case ASCII letters, digits,
// '.', '-' and '_', beginning and ending with a letter or digit, no two dots
// in a row.
//
// The error is ErrUnsupported: a name does not become valid by trying again.
func ValidName(name string) error {
	if name == "" || len(name) > 200 {
		return nameError(fmt.Sprintf("name %q: want 1 to 200 characters", name))
	}
	for i := range len(name) {
		c := name[i]
		alnum := 'a' <= c && c <= 'z' || '0' <= c && c <= '9'
		edge := i == 0 || i == len(name)-1
		switch {
		case alnum:
		case (c == '.' || c == '-' || c == '_') && !edge && !(c == '.' && name[i-1] == '.'):
		default:
			return nameError(fmt.Sprintf("name %q: character %q at %d: want lower-case letters and digits, with '.', '-' or '_' between them", name, c, i))
		}
	}
	return nil
}

// nameError is ErrUnsupported without its words.
type nameError string

func (e nameError) Error() string { return string(e) }

func (e nameError) Is(target error) bool { return target == ErrUnsupported }

// GroupName is the name by which Lister and Remover know the group of s: Group,
// or "GROUP~INSTANCE" for the group of a Broadcast subscription, which is its
// instance's own. '~' is in no valid name.
func (s Subscription) GroupName() string {
	if s.Broadcast {
		return s.Group + "~" + s.Instance
	}
	return s.Group
}

// IsReply reports whether a channel brings the replies of one instance,
// "reply.SERVICE.INSTANCE": transient, with that instance as its one receiver.
func IsReply(channel string, transient bool) bool {
	return transient && strings.HasPrefix(channel, "reply.") && strings.Count(channel, ".") >= 2
}
