package rabbitbus

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

var _ driver.Granter = (*Conn)(nil)

// The verbs of RabbitMQ's permissions.
const (
	mayConfigure = "configure"
	mayWrite     = "write"
	mayRead      = "read"
)

// defaultExchange is the name under which rights to the default exchange are
// given. What is sent to a queue goes through it, and no right tells one queue
// from another there.
const defaultExchange = "amq.default"

// Grants returns the permissions that a program with these uses needs. On is a
// regular expression that matches whole names.
func (c *Conn) Grants(uses []driver.Use) ([]driver.Grant, error) {
	g := grants{}
	for _, u := range uses {
		if !u.Prefix {
			if err := validChannel(u.Channel); err != nil {
				return nil, err
			}
		}
		c.grant(g, u)
	}
	list := make([]driver.Grant, 0, len(g))
	for one := range g {
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b driver.Grant) int {
		return cmp.Or(strings.Compare(a.Verb, b.Verb), strings.Compare(a.On, b.On))
	})
	return list, nil
}

// grant adds what one use needs.
func (c *Conn) grant(g grants, u driver.Use) {
	ch := u.Channel
	partitions := ""
	if cmp.Or(ch.Partitions, c.opts.Partitions) > 0 && !ch.Transient {
		partitions = partitionMark + "[0-9]+"
	}
	names := regexp.QuoteMeta(ch.Name) + partitions
	if u.Prefix {
		names = regexp.QuoteMeta(ch.Name) + ".*"
	}
	queues := ch.Kind == driver.PointToPoint
	if u.Makes {
		g.add(mayConfigure, names)
	}
	switch {
	case u.Sends && queues:
		g.add(mayWrite, regexp.QuoteMeta(defaultExchange))
	case u.Sends:
		g.add(mayWrite, names)
	}
	for _, group := range u.Groups {
		of := names
		if !queues {
			of = regexp.QuoteMeta(groupBase(ch, group)) + partitions
			g.add(mayConfigure, of)
			g.add(mayRead, names) // to bind
			g.add(mayWrite, of)
		} else if !ch.Transient {
			for _, verb := range []string{mayConfigure, mayRead} {
				g.add(verb, regexp.QuoteMeta(groupsExchange))
			}
			g.add(mayWrite, of) // to bind
		}
		if !u.Looks {
			g.add(mayRead, of)
		}
		if partitions != "" && !u.Looks {
			members := regexp.QuoteMeta(groupBase(ch, group) + membersMark)
			g.add(mayConfigure, members)
			g.add(mayRead, members)
		}
	}
	for _, group := range u.Broadcasts {
		of := regexp.QuoteMeta(ch.Name+groupMark+group+".") + ".*"
		g.add(mayConfigure, of)
		g.add(mayRead, names)
		g.add(mayRead, of)
		g.add(mayWrite, of)
	}
}

// grants are a set.
type grants map[driver.Grant]struct{}

func (g grants) add(verb, on string) { g[driver.Grant{Verb: verb, On: on}] = struct{}{} }

// GrantText writes the command that gives a user exactly these rights.
func (c *Conn) GrantText(user string, all []driver.Grant) string {
	var b strings.Builder
	fmt.Fprintf(&b, "rabbitmqctl set_permissions --vhost %s %s", quoted(c.opts.VHost), quoted(cmp.Or(user, "NAME")))
	for _, verb := range []string{mayConfigure, mayWrite, mayRead} {
		b.WriteString(" \\\n  " + quoted(pattern(verb, all)))
	}
	b.WriteString("\n")
	return b.String()
}

// pattern is the regular expression of all grants of a verb.
func pattern(verb string, all []driver.Grant) string {
	var names []string
	for _, g := range all {
		if g.Verb == verb {
			names = append(names, g.On)
		}
	}
	return "^(" + strings.Join(names, "|") + ")$" // "^()$" matches no name
}

// quoted is a word of a shell.
func quoted(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
