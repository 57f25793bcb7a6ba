package servers

import (
	"context"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// A Kind is one sort of server. A new one is a small file with a type that
// implements Kind and a line in [Kinds].
//
// Methods may be called at the same time for different instances. They do not
// retry and do not wait for the server; that is the caller's work.
type Kind interface {
	// Name is one lower-case word: what the program's arguments call it.
	Name() string
	// Ports names the ports that an instance listens on. The first is the one
	// that clients connect to.
	Ports() []string
	// Installed reports whether everything that Install brings is there.
	Installed() bool
	// Install brings what is missing. It runs under a lock across processes
	// and writes what it does to log.
	Install(ctx context.Context, log io.Writer) error
	// Prepare makes the configuration and the data of a new instance.
	Prepare(ctx context.Context, in *Instance) error
	// Command is the server in the foreground, on the data that is there.
	Command(in *Instance) Command
	// Probe speaks the server's protocol, once, and returns the server's
	// version when it answers and would serve a client now.
	Probe(ctx context.Context, in *Instance) (version string, err error)
	// URL is what a client on this machine connects to.
	URL(in *Instance) string
}

// A Clustered is a Kind whose servers can be the nodes of one cluster.
type Clustered interface {
	Kind
	// ClusterURL is what a client connects to that is to reach every node, with
	// as many copies of what it makes as there are nodes.
	ClusterURL(nodes []*Instance) string
	// Helper is a server that all nodes need and that is none of them; nil for
	// none. No fault is meant for it.
	Helper() Kind
	// MostNodes is how many nodes there can be, 2 or more.
	MostNodes() int
}

// Kinds returns the servers that can be started, in the order in which they
// are listed.
func Kinds() []Kind { return []Kind{NATS, RabbitMQ, Kafka, Postgres} }

// ByName returns the kind of that name, or an error that lists the names.
func ByName(name string) (Kind, error) {
	var names []string
	for _, k := range Kinds() {
		if k.Name() == name {
			return k, nil
		}
		names = append(names, k.Name())
	}
	return nil, fmt.Errorf("no server is called %q: there are %s", name, strings.Join(names, ", "))
}

// A Command is how a server is run.
type Command struct {
	Args []string       // the program and its arguments
	Env  []string       // beside PATH, HOME, LANG and TMPDIR, the only others that it sees
	User string         // whom to run as where this process is root; "" for the same
	Stop syscall.Signal // asks it to end in good order, also with clients connected; 0 for SIGTERM
}

// An Instance is one server with its directory and its ports, running or not.
type Instance struct {
	Dir   string         // its own; the server's user owns it
	Ports map[string]int // by the names of Kind.Ports

	// Nodes are all servers of the cluster that this one belongs to, itself at
	// index Node; nil for a server by itself. Their directories and ports are
	// set before the first of them is prepared.
	Nodes []*Instance
	Node  int

	// Helper is what serves all nodes of a cluster; nil where there is none.
	Helper *Instance
}

// Path returns a path below the instance's directory.
func (in *Instance) Path(elem ...string) string {
	return filepath.Join(append([]string{in.Dir}, elem...)...)
}

// Addr returns the loopback address of the named port, as net.Dial wants it.
func (in *Instance) Addr(port string) string {
	return net.JoinHostPort(loopback, strconv.Itoa(in.Ports[port]))
}

// addresses returns the addresses of the named port of all nodes.
func addresses(nodes []*Instance, port string) (all []string) {
	for _, in := range nodes {
		all = append(all, in.Addr(port))
	}
	return all
}

// loopback is where every server listens and nobody else can reach it.
const loopback = "127.0.0.1"
