package driver

import (
	"encoding/json"
	"fmt"
)

// A Use is what a program does with a channel, or with every channel whose name
// begins alike. Tools derive from uses the rights that the program needs.
type Use struct {
	// Channel is the channel. With Prefix, its name is how the names of the
	// channels begin; it ends with a dot.
	Channel Channel
	Prefix  bool

	// Makes says that the program makes the channel, and its groups in it.
	Makes bool

	// Sends says that it sends to the channel.
	Sends bool

	// Looks says that it asks whether the channel exists, as Browse does, and
	// receives nothing: its groups are made and no more.
	Looks bool

	// Groups are the groups as which it receives from the channel.
	Groups []string

	// Broadcasts are the groups of which each instance receives everything.
	Broadcasts []string
}

// A Grant is one right, as the server that gives it names it.
type Grant struct {
	Verb string // what may be done: "publish", "read"
	On   string // to what: a subject, the pattern of a name, a resource
}

// A Granter is a Conn whose server gives rights to users.
type Granter interface {
	// Grants returns the least rights that a program with these uses needs,
	// sorted, each once. It asks the server nothing.
	Grants(uses []Use) ([]Grant, error)

	// GrantText writes rights as the server's operator gives them to a user: a
	// part of a configuration file, or commands. Without a user it writes NAME.
	GrantText(user string, grants []Grant) string
}

// useJSON is the form of a Use for tools.
type useJSON struct {
	Channel    string   `json:"channel"`
	Kind       string   `json:"kind"`
	Partitions int      `json:"partitions,omitempty"`
	Transient  bool     `json:"transient,omitempty"`
	Prefix     bool     `json:"prefix,omitempty"`
	Makes      bool     `json:"makes,omitempty"`
	Sends      bool     `json:"sends,omitempty"`
	Looks      bool     `json:"looks,omitempty"`
	Groups     []string `json:"groups,omitempty"`
	Broadcasts []string `json:"broadcasts,omitempty"`
}

// MarshalJSON writes the use as tools read it, with the channel's kind by name.
func (u Use) MarshalJSON() ([]byte, error) {
	return json.Marshal(useJSON{u.Channel.Name, u.Channel.Kind.String(), u.Channel.Partitions, u.Channel.Transient,
		u.Prefix, u.Makes, u.Sends, u.Looks, u.Groups, u.Broadcasts})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (u *Use) UnmarshalJSON(b []byte) error {
	var j useJSON
	if err := json.Unmarshal(b, &j); err != nil {
		return err
	}
	kind := PointToPoint
	switch j.Kind {
	case PointToPoint.String():
	case PublishSubscribe.String():
		kind = PublishSubscribe
	default:
		return fmt.Errorf("channel %s: kind is %q: want %q or %q", j.Channel, j.Kind, PointToPoint, PublishSubscribe)
	}
	*u = Use{Channel{j.Channel, kind, j.Partitions, j.Transient}, j.Prefix, j.Makes, j.Sends, j.Looks, j.Groups, j.Broadcasts}
	return nil
}
