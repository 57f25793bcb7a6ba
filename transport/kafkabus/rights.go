package kafkabus

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

var _ driver.Granter = (*Conn)(nil)

// Grants returns the ACLs that a program with these uses needs: operations of
// Kafka, on "topic NAME", "group NAME", or "topic NAME*" for all whose names begin
// so.
func (c *Conn) Grants(uses []driver.Use) ([]driver.Grant, error) {
	g := grants{}
	g.topic(topologyTopic, "Create", "DescribeConfigs", "Read", "Write")
	for _, u := range uses {
		ch := u.Channel
		name := ch.Name
		switch {
		case u.Prefix && len(u.Groups) > 0: // of reply channels, which share a topic
			name = topicOf(name, ch.Transient)
		case u.Prefix:
			name += "*"
		default:
			if err := validChannel(ch); err != nil {
				return nil, err
			}
		}
		if u.Makes {
			g.topic(name, "Create", "DescribeConfigs")
		}
		if u.Sends {
			g.topic(name, "Write")
		}
		if u.Looks || len(u.Groups)+len(u.Broadcasts) > 0 {
			g.topic(name, "Read")
			if !ch.Transient && ch.Kind == driver.PointToPoint {
				g.topic(removedPrefix+name, "Read") // what an operator took out
			}
		}
		for _, group := range u.Groups {
			if !ch.Transient {
				g["Read group "+groupID(group, ch.Name)] = driver.Grant{Verb: "Read", On: "group " + groupID(group, ch.Name)}
			}
		}
	}
	list := make([]driver.Grant, 0, len(g))
	for _, one := range g {
		list = append(list, one)
	}
	slices.SortFunc(list, func(a, b driver.Grant) int {
		return cmp.Or(strings.Compare(a.On, b.On), strings.Compare(a.Verb, b.Verb))
	})
	return list, nil
}

// grants are a set, by both parts.
type grants map[string]driver.Grant

func (g grants) topic(name string, operations ...string) {
	for _, op := range operations {
		g[op+" topic "+name] = driver.Grant{Verb: op, On: "topic " + name}
	}
}

// GrantText writes the commands that give rights to a user.
func (c *Conn) GrantText(user string, all []driver.Grant) string {
	var b strings.Builder
	for i := 0; i < len(all); {
		on := all[i].On
		fmt.Fprintf(&b, "kafka-acls.sh --bootstrap-server %s --add --allow-principal %q", strings.Join(c.opts.Brokers, ","), "User:"+cmp.Or(user, "NAME"))
		for ; i < len(all) && all[i].On == on; i++ {
			fmt.Fprintf(&b, " --operation %s", all[i].Verb)
		}
		kind, name, _ := strings.Cut(on, " ")
		pattern := "literal"
		if strings.HasSuffix(name, "*") {
			pattern, name = "prefixed", strings.TrimSuffix(name, "*")
		}
		fmt.Fprintf(&b, " --%s %q --resource-pattern-type %s\n", kind, name, pattern)
	}
	return b.String()
}
