package servers

import (
	"testing"

	"github.com/dovetail-go/dovetail/internal/netfault"
)

// A Proxy forwards TCP connections to a server and breaks them as a network
// does: Cut resets them, Stall leaves them open and silent, DropClients leaves
// the server's side open, Heal ends Cut and Stall.
type Proxy = netfault.Proxy

// NewProxy listens on a loopback port and forwards to target, a host and port
// such as [Server.Addr], which need not be up yet. It is closed with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	p, err := netfault.Listen(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}
