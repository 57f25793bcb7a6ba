package driver

// A Use is what a program does with a channel, or with every channel whose name
// begins alike. Tools derive from uses the rights that the program needs.
type Use struct {
	// Channel is the channel. With Prefix, its name is how the names of the
	// channels begin; it ends with a dot.
	Channel Channel `json:"channel"`
	Prefix  bool    `json:"prefix,omitempty"`

	// Makes says that the program makes the channel, and its groups in it.
	Makes bool `json:"makes,omitempty"`

	// Sends says that it sends to the channel.
	Sends bool `json:"sends,omitempty"`

	// Looks says that it asks whether the channel exists, as Browse does, and
	// receives nothing: its groups are made and no more.
	Looks bool `json:"looks,omitempty"`

	// Groups are the groups as which it receives from the channel.
	Groups []string `json:"groups,omitempty"`

	// Broadcasts are the groups of which each instance receives everything.
	Broadcasts []string `json:"broadcasts,omitempty"`
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
