package rabbitbus_test

import (
	"bytes"
	"context"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
)

// The programs in testdata/interop know RabbitMQ, by the client that most who
// write in their language use, and nothing of Dovetail.

func testPython(t *testing.T) {
	interop(t, "python", []string{servers.RabbitMQPython(t), "testdata/interop/client.py"})
}

func testJava(t *testing.T) {
	// A source file is compiled and run; C1 alone starts fastest.
	interop(t, "java", append(servers.RabbitMQJava(t), "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8", "testdata/interop/Client.java"))
}

func interop(t *testing.T, name string, client []string) {
	srv := servers.Shared(t, servers.RabbitMQ)
	c := connect(t, optionsFor(t, srv))
	s := newQueue(t, c, 10)
	run := func(what string) string {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, client[0], append(slices.Clone(client[1:]), srv.URL(), what, s.Channel.Name)...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		cmd.WaitDelay = time.Second
		if err := cmd.Run(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, what, err, stderr.String())
		}
		return stdout.String()
	}
	const body = `{"sku":"85123A","name":"铁皮 lantern"}`

	// They read what we send.
	err := c.Send(within(t), []*driver.Message{{
		Channel: s.Channel.Name, ID: "536365", Source: "ordering", Type: "ordering.order-placed.v1",
		Time: time.Date(2010, 12, 1, 8, 26, 0, 123456000, time.UTC), ContentType: "application/json",
		Key: "顾客-17850", CorrelationID: "c", CausationID: "d", ReplyTo: "reply.x", Body: []byte(body),
		Headers: driver.Headers{{Name: "tenant", Value: "acme"}, {Name: "tag", Value: "a"}, {Name: "tag", Value: "b"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSuffix(run("read"), "\n"), "\n")
	got = slices.DeleteFunc(got, func(line string) bool { // what Browse finds it by, and the server's own
		return strings.HasPrefix(line, "header dovetail-stamp\t") || strings.HasPrefix(line, "header x-delivery-count\t")
	})
	want := []string{
		"content-type\tapplication/json", "message-id\t536365", "delivery-mode\t2", "body\t" + body,
		"header cloudEvents_specversion\t1.0", "header cloudEvents_id\t536365", "header cloudEvents_source\tordering",
		"header cloudEvents_type\tordering.order-placed.v1", "header cloudEvents_time\t2010-12-01T08:26:00.123456Z",
		"header cloudEvents_partitionkey\t顾客-17850", "header cloudEvents_correlationid\tc", "header cloudEvents_causationid\td",
		"header cloudEvents_replyto\treply.x", "header tenant\tacme", "header tag\ta", "header tag\tb",
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the program read\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	// We read what they send.
	run("write")
	r := openReceiver(t, c, s)
	d := take(t, r, 1)[0]
	m := d.Message
	if d.Fault != nil || m.ID != name+"/1" || m.Source != "/"+name || m.Type != "ordering.order-placed.v1" ||
		!m.Time.Equal(time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)) || m.Key != "17850" || m.ContentType != "application/json" || string(m.Body) != body {
		t.Errorf("it came as %+v, fault %v", m, d.Fault)
	}
	wantHeaders := driver.Headers{{Name: "cloudEvents_comexampleextension", Value: "kept"}, {Name: "count", Value: "3"},
		{Name: "tag", Value: "a"}, {Name: "tag", Value: "b"}, {Name: "tenant", Value: "acme"}}
	if !slices.Equal(m.Headers, wantHeaders) {
		t.Errorf("its headers are %v, want %v", m.Headers, wantHeaders)
	}
	if err := r.Settle(within(t), []driver.Settlement{{Delivery: d}}); err != nil {
		t.Error(err)
	}
}
