package driver

import (
	"fmt"
	"strings"
)

// ValidName returns nil if name can be the name of a channel or a group on every
// transport: 1 to 200 characters, lower-case ASCII letters, digits, '.', '-' and
// '_', with a letter or digit first and last, and no two dots in a row. Otherwise
// it returns an error that says what is wrong; errors.Is finds ErrUnsupported in it.
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

// GroupName returns the name that Lister and Remover use for the group of s: Group,
// or "GROUP~INSTANCE" for a Broadcast subscription, whose group is its instance's
// own. No valid name has a '~'.
func (s Subscription) GroupName() string {
	if s.Broadcast {
		return s.Group + "~" + s.Instance
	}
	return s.Group
}

// IsReply reports whether channel is the reply channel of one instance: transient,
// and called "reply.SERVICE.INSTANCE". That instance is its one receiver.
func IsReply(channel string, transient bool) bool {
	return transient && strings.HasPrefix(channel, "reply.") && strings.Count(channel, ".") >= 2
}
