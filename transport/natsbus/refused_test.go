package natsbus_test

import (
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/natsbus"
)

func TestProvision_refuses_for_good_what_the_server_cannot_make(t *testing.T) {
	srv := servers.Shared(t, servers.NATS)
	c := connect(t, natsbus.Options{URL: srv.URL(), Replicas: 3})
	err := c.Provision(within(t), []driver.Channel{{Name: "three-of-it"}}, nil)
	if c.Classify(err) != driver.Unsupported || !strings.Contains(err.Error(), "replicas") {
		t.Errorf("three replicas at a single server: %v is %v, want it unsupported, with the option named", err, c.Classify(err))
	}
}
