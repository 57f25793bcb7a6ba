package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
)

// checkCut says why cuts of the connections to a NATS server would cut nothing: a
// client learns the addresses of the other nodes of a cluster, and reconnects to one
// of those, which is not behind the proxy. A server by itself tells no addresses.
func checkCut(ctx context.Context, broker string) error {
	conn, err := driver.Open(ctx, broker)
	if err != nil {
		return err
	}
	var nc *nats.Conn
	client, ok := conn.(interface{ As(target any) bool })
	if !ok || !client.As(&nc) {
		return conn.Close(ctx)
	}
	others := nc.DiscoveredServers()
	if named := len(nc.Servers()) - len(others); named == 1 && len(others) > 0 { // with more, none is cut
		err = fmt.Errorf("--cut cannot cut the connections to the broker: its clients reconnect to the other nodes of its cluster, %s. Name all nodes in --broker, so that only connections to the stores are cut, or leave --cut out; --nodes breaks nodes",
			strings.Join(others, ", "))
	}
	return errors.Join(err, conn.Close(ctx))
}
