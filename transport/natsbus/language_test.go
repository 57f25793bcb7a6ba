package natsbus_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/natsbus"
)

func TestInterop_with_a_plain_Python_client_both_ways(t *testing.T) {
	interop(t, "python", servers.NATSPython(t), "testdata/interop/client.py")
}

func TestInterop_with_a_plain_Java_client_both_ways(t *testing.T) {
	// A source file is compiled and run, which takes a JDK; C1 alone starts fastest.
	interop(t, "java", append(servers.NATSJava(t), "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8", "testdata/interop/Client.java")...)
}

func interop(t *testing.T, name string, command ...string) {
	srv := servers.Shared(t, servers.NATS)
	h := drivertest.Harness{Patience: patience, Open: func(ctx context.Context) (driver.Conn, error) {
		return natsbus.Connect(ctx, natsbus.Options{URL: srv.URL(), Logger: quiet})
	}}
	ours, _, _, own := drivertest.Interop(t, h, drivertest.Program{
		Name: name, Command: append(command, srv.URL()), Suffix: ".p0",
		Prefix: "ce-", ContentType: "header ce-datacontenttype",
		Own: func(line string) bool { return strings.HasPrefix(line, "subject\t") },
		Key: "顾客 17850", Headers: driver.Headers{{Name: "ce-comexampleextension", Value: "kept"}, {Name: "tenant", Value: "acme"}},
	})
	if want := []string{"subject\t" + ours.Channel.Name + ".p0"}; !slices.Equal(own, want) {
		t.Errorf("the program read from %q, want %q", own, want)
	}
}
