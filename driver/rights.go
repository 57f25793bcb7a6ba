package driver

import (
	"encoding/json"
	"fmt"
)

// A Use says what a program does with a channel, or with all channels whose names
// have the same beginning. Tools derive from uses the rights that the program needs.
type Use struct {
	// Channel is the channel. With Prefix, Channel.Name is the beginning of the
	// names of all the channels that are meant; it ends with a dot.
	Channel Channel
	Prefix  bool

	// Makes says that the program makes the channel, and Groups in it.
	Makes bool

	// Sends says that the program sends to the channel.
	Sends bool

	// Looks says that the program asks whether the channel exists, as Browse does,
	// and receives nothing from it. Its Groups are only made then.
	Looks bool

	// Groups are the groups in which the program receives from the channel, unless
	// Looks is set.
	Groups []string

	// Broadcasts are the groups, without instances, for which each instance receives
	// every message (Subscription.Broadcast).
	Broadcasts []string
}

// A Grant is one right, in the words of the server that gives it.
type Grant struct {
	Verb string // what may be done: "publish", "read"
	On   string // to what: a subject, the pattern of a name, a resource
}

// A Granter is a Conn whose server gives rights to users. Its methods do not ask the
// server.
type Granter interface {
	// Grants returns the least rights that a program with these uses needs, sorted,
	// each once.
	Grants(uses []Use) ([]Grant, error)

	// GrantText returns the text by which the server's operator gives these rights
	// to a user: a part of a configuration file, or commands. Where user is "" the
	// text has NAME in its place.
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

// MarshalJSON returns the use as a JSON object, with the channel's kind by name. The
// command "dovetail topology --rights" reads it.
func (u Use) MarshalJSON() ([]byte, error) {
	return json.Marshal(useJSON{u.Channel.Name, u.Channel.Kind.String(), u.Channel.Partitions, u.Channel.Transient,
		u.Prefix, u.Makes, u.Sends, u.Looks, u.Groups, u.Broadcasts})
}

// UnmarshalJSON reads what MarshalJSON returns. A kind that is unknown is an error.
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
