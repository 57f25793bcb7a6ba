package natsbus

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

var _ driver.Granter = (*Conn)(nil)

// The verbs of NATS's permissions.
const (
	mayPublish   = "publish"
	maySubscribe = "subscribe"
)

// Grants returns the permissions that a program with these uses needs. Streams'
// settings may be read of all of them: the name of a reply channel's, which
// mostly has no stream, ends in that of the instance, and a permission has no
// wildcard for a part of a name.
func (c *Conn) Grants(uses []driver.Use) ([]driver.Grant, error) {
	g := grants{}
	g.both(c.inbox() + ".>")
	g.publish("$JS.API.STREAM.INFO.*")
	for _, u := range uses {
		if err := c.grant(g, u); err != nil {
			return nil, err
		}
	}
	return g.sorted(), nil
}

// inbox is how the subjects begin on which this connection gets answers.
func (c *Conn) inbox() string {
	one := c.nc.NewInbox()
	return one[:strings.LastIndexByte(one, '.')]
}

// grant adds what one use needs.
func (c *Conn) grant(g grants, u driver.Use) error {
	ch := u.Channel
	if u.Prefix {
		if u.Sends {
			g.publish(ch.Name + ">")
		}
		if len(u.Groups) > 0 {
			g.subscribe(ch.Name + ">")
		}
		return nil
	}
	if err := validChannel(ch); err != nil {
		return err
	}
	if ch.Transient {
		if u.Sends {
			g.publish(transientSubject(ch.Name))
		}
		if len(u.Groups)+len(u.Broadcasts) > 0 {
			g.subscribe(transientSubject(ch.Name))
		}
		return nil
	}
	stream := objectName(ch.Name)
	if u.Makes {
		g.publish("$JS.API.STREAM.CREATE." + stream)
	}
	if u.Sends {
		g.publish(wildcard(ch.Name))
	}
	if u.Looks {
		g.publish("$JS.API.DIRECT.GET." + stream)
	}
	for _, group := range u.Groups {
		if u.Looks {
			g.made(stream, c.consumers(ch, group))
			continue
		}
		g.both(memberSubject(stream, group))
		for _, name := range c.consumers(ch, group) {
			g.consumer(stream, name)
			if name != objectName(group) {
				g.publish("$JS.API.CONSUMER.UNPIN." + stream + "." + name)
			}
		}
	}
	if len(u.Broadcasts) > 0 {
		g.consumer(stream, "*")
		g.publish("$JS.API.CONSUMER.DELETE." + stream + ".*")
	}
	return nil
}

// consumers are the names of a group's consumers of a channel.
func (c *Conn) consumers(ch driver.Channel, group string) []string {
	partitions := cmp.Or(ch.Partitions, c.opts.Partitions)
	if partitions == 0 {
		return []string{objectName(group)}
	}
	names := make([]string, partitions)
	for k := range names {
		names[k] = partName(group, k)
	}
	return names
}

// grants are a set.
type grants map[driver.Grant]struct{}

func (g grants) publish(subject string) { g[driver.Grant{Verb: mayPublish, On: subject}] = struct{}{} }
func (g grants) subscribe(subject string) {
	g[driver.Grant{Verb: maySubscribe, On: subject}] = struct{}{}
}

func (g grants) both(subject string) {
	g.publish(subject)
	g.subscribe(subject)
}

// made adds what it takes to make consumers.
func (g grants) made(stream string, names []string) {
	for _, name := range names {
		g.publish("$JS.API.CONSUMER.CREATE." + stream + "." + name + ".>")
		g.publish("$JS.API.CONSUMER.INFO." + stream + "." + name)
	}
}

// consumer adds what it takes to make a consumer and to receive by it.
func (g grants) consumer(stream, name string) {
	g.made(stream, []string{name})
	of := stream + "." + name
	g.publish("$JS.API.CONSUMER.MSG.NEXT." + of)
	g.publish("$JS.ACK." + of + ".>")
}

func (g grants) sorted() []driver.Grant {
	list := make([]driver.Grant, 0, len(g))
	for one := range g {
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b driver.Grant) int {
		return cmp.Or(strings.Compare(a.Verb, b.Verb), strings.Compare(a.On, b.On))
	})
	return list
}

// GrantText writes the permissions of a user as the server's configuration has
// them.
func (c *Conn) GrantText(user string, all []driver.Grant) string {
	var b strings.Builder
	fmt.Fprintf(&b, "{\n  user: %q\n  permissions: {\n", cmp.Or(user, "NAME"))
	for _, verb := range []string{mayPublish, maySubscribe} {
		fmt.Fprintf(&b, "    %s: { allow: [\n", verb)
		for _, one := range all {
			if one.Verb == verb {
				fmt.Fprintf(&b, "      %q\n", one.On)
			}
		}
		b.WriteString("    ] }\n")
	}
	b.WriteString("  }\n}\n")
	return b.String()
}
