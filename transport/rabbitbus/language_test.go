package rabbitbus_test

import (
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/rabbitbus"
)

func testPython(t *testing.T) {
	interop(t, "python", servers.RabbitMQPython(t), "testdata/interop/client.py")
}

func testJava(t *testing.T) {
	// A source file is compiled and run; C1 alone starts fastest.
	interop(t, "java", append(servers.RabbitMQJava(t), "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8", "testdata/interop/Client.java")...)
}

func interop(t *testing.T, name string, command ...string) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.Interop(t, harness(t, srv, func(*rabbitbus.Options) {}), drivertest.Program{
		Name: name, Command: append(command, srv.URL()),
		Prefix: "cloudEvents_", ContentType: "content-type", Repeats: true,
		Prints: []string{"message-id\t536 365", "delivery-mode\t2"},
		Own: func(line string) bool { // what Browse finds it by, and the server's own
			return strings.HasPrefix(line, "header dovetail-stamp\t") || strings.HasPrefix(line, "header x-delivery-count\t")
		},
		Key: "17850", Headers: driver.Headers{{Name: "cloudEvents_comexampleextension", Value: "kept"}, {Name: "count", Value: "3"},
			{Name: "tag", Value: "a"}, {Name: "tag", Value: "b"}, {Name: "tenant", Value: "acme"}},
	})
}
