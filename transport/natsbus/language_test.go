package natsbus_test

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/natsbus"
)

// The programs in testdata/interop know NATS, by the client that most who write
// in their language use, and nothing of Dovetail.

func TestInterop_with_a_plain_Python_client_both_ways(t *testing.T) {
	interop(t, "python", []string{servers.NATSPython(t), "testdata/interop/client.py"})
}

func TestInterop_with_a_plain_Java_client_both_ways(t *testing.T) {
	// A source file is compiled and run, which takes a JDK; C1 alone starts fastest.
	interop(t, "java", append(servers.NATSJava(t), "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8", "testdata/interop/Client.java"))
}

func interop(t *testing.T, name string, client []string) {
	srv := servers.Shared(t, servers.NATS)
	c := connect(t, natsbus.Options{URL: srv.URL()})
	const body = `{"sku":"85123A","name":"铁皮 lantern"}`
	ours := driver.Channel{Name: "read-by-" + name}
	if err := c.Provision(within(t), []driver.Channel{ours}, nil); err != nil {
		t.Fatal(err)
	}
	theirs := work("written-by-" + name)
	provision(t, c, theirs)

	err := c.Send(within(t), []*driver.Message{{
		Channel: ours.Name, ID: "536 365", Source: "ordering", Type: "ordering.order-placed.v1",
		Time: time.Date(2010, 12, 1, 8, 26, 0, 123456000, time.UTC), ContentType: "application/json",
		Key: "顾客 100%", CorrelationID: "c", CausationID: "d", ReplyTo: "reply.x", Body: []byte(body),
		Headers: driver.Headers{{Name: "tenant", Value: "acme"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(within(t), client[0], append(slices.Clone(client[1:]), srv.URL(), ours.Name, theirs.Channel.Name+".p0")...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.Env = append(cmd.Environ(), "PYTHONIOENCODING=utf-8")
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", name, err, stdout.String(), stderr.String())
	}
	got := strings.Split(strings.TrimSuffix(stdout.String(), "\n"), "\n")
	want := []string{
		"subject\t" + ours.Name + ".p0", "body\t" + body, "header ce-specversion\t1.0", "header ce-id\t536 365", "header ce-source\tordering",
		"header ce-type\tordering.order-placed.v1", "header ce-time\t2010-12-01T08:26:00.123456Z", "header ce-datacontenttype\tapplication/json",
		"header ce-partitionkey\t顾客 100%", "header ce-correlationid\tc", "header ce-causationid\td", "header ce-replyto\treply.x", "header tenant\tacme",
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the program read\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	r, err := c.OpenReceiver(within(t), theirs)
	if err != nil {
		t.Fatal(err)
	}
	ds, err := r.Receive(within(t), 1)
	if err != nil {
		t.Fatal(err)
	}
	m := ds[0].Message
	if ds[0].Fault != nil || m.ID != name+"/1" || m.Source != "/"+name || m.Type != "ordering.order-placed.v1" ||
		!m.Time.Equal(time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)) || m.Key != "顾客 17850" || m.ContentType != "application/json" || string(m.Body) != body {
		t.Errorf("it came as %+v, fault %v", m, ds[0].Fault)
	}
	if want := (driver.Headers{{Name: "ce-comexampleextension", Value: "kept"}, {Name: "tenant", Value: "acme"}}); !slices.Equal(m.Headers, want) {
		t.Errorf("its headers are %v, want %v", m.Headers, want)
	}
	if err := r.Settle(within(t), []driver.Settlement{{Delivery: ds[0]}}); err != nil {
		t.Error(err)
	}
}
