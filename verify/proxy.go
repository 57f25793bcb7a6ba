package verify

import (
	"net"
	"net/url"
	"strings"

	"github.com/dovetail-go/dovetail/internal/netfault"
)

// defaultPorts are those of URLs that name none.
var defaultPorts = map[string]string{"nats": "4222", "amqp": "5672", "amqps": "5671", "postgres": "5432", "postgresql": "5432"}

// proxied returns a proxy for the server that a URL names, and the URL with the
// proxy's address; nil where it names none, or more than one.
func proxied(raw string) (*netfault.Proxy, string, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || strings.Contains(u.Host, ",") || u.Query().Has("servers") {
		return nil, raw, nil
	}
	port := u.Port()
	if port == "" {
		port = defaultPorts[u.Scheme]
	}
	if _, known := defaultPorts[u.Scheme]; !known || port == "" {
		return nil, raw, nil // Kafka's clients connect to what the servers advertise
	}
	p, err := netfault.Listen(net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, raw, err
	}
	u.Host = p.Addr()
	return p, u.String(), nil
}
