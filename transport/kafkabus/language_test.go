package kafkabus_test

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
)

// The programs in testdata/interop know Kafka, by the client that most who write
// in their language use, and nothing of Dovetail.

func TestInterop_with_a_plain_Python_client_both_ways(t *testing.T) {
	interop(t, "python", []string{servers.KafkaPython(t), "testdata/interop/client.py"})
}

func TestInterop_with_a_plain_Java_client_both_ways(t *testing.T) {
	// A source file is compiled and run, which takes a JDK; C1 alone starts fastest.
	interop(t, "java", append(servers.KafkaJava(t), "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "testdata/interop/Client.java"))
}

func interop(t *testing.T, name string, client []string) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	c := connect(t, options(s))
	const body = `{"sku":"85123A","name":"铁皮 lantern"}`

	sub := subscription("read-by-"+name, 7)
	provision(t, c, sub.Channel, sub)
	theirs := subscription("written-by-"+name, 7)
	provision(t, c, theirs.Channel, theirs)
	take := func(sub driver.Subscription) *driver.Delivery {
		t.Helper()
		r := open(t, c, sub)
		d := receive(t, r, 1)[0]
		ack(t, r, d)
		if err := r.Close(t.Context()); err != nil {
			t.Error(err)
		}
		return d
	}
	send := func(sub driver.Subscription, id, key string) *driver.Delivery {
		t.Helper()
		err := c.Send(t.Context(), []*driver.Message{{
			Channel: sub.Channel.Name, ID: id, Source: "ordering", Type: "ordering.order-placed.v1",
			Time: time.Date(2010, 12, 1, 8, 26, 0, 123456000, time.UTC), ContentType: "application/json",
			Key: key, CorrelationID: "c", CausationID: "d", ReplyTo: "reply.x", Body: []byte(body),
			Headers: driver.Headers{{Name: "tenant", Value: "acme"}, {Name: "tag", Value: "a"}, {Name: "tag", Value: "b"}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		return take(sub)
	}

	// They read what we send.
	d := send(sub, "536365", "顾客-17850")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, client[0], append(slices.Clone(client[1:]), broker(s), sub.Channel.Name, theirs.Channel.Name)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", name, err, stdout.String(), stderr.String())
	}
	got := strings.Split(strings.TrimSuffix(stdout.String(), "\n"), "\n")
	sentTo := got[len(got)-1]
	got = got[:len(got)-1]
	want := []string{
		fmt.Sprintf("partition\t%d", d.Partition), "key\t顾客-17850", "body\t" + body, "header content-type\tapplication/json",
		"header ce_specversion\t1.0", "header ce_id\t536365", "header ce_source\tordering",
		"header ce_type\tordering.order-placed.v1", "header ce_time\t2010-12-01T08:26:00.123456Z",
		"header ce_partitionkey\t顾客-17850", "header ce_correlationid\tc", "header ce_causationid\td",
		"header ce_replyto\treply.x", "header tenant\tacme", "header tag\ta", "header tag\tb",
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the program read\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	// We read what they send, and a key of theirs is where ours is.
	d = take(theirs)
	m := d.Message
	if d.Fault != nil || m.ID != name+"/1" || m.Source != "/"+name || m.Type != "ordering.order-placed.v1" ||
		!m.Time.Equal(time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)) || m.Key != "17850" || m.ContentType != "application/json" || string(m.Body) != body {
		t.Errorf("it came as %+v, fault %v", m, d.Fault)
	}
	wantHeaders := driver.Headers{{Name: "ce_comexampleextension", Value: "kept"}, {Name: "tenant", Value: "acme"},
		{Name: "tag", Value: "a"}, {Name: "tag", Value: "b"}}
	if !slices.Equal(m.Headers, wantHeaders) {
		t.Errorf("its headers are %v, want %v", m.Headers, wantHeaders)
	}
	ours := send(theirs, "2", "17850")
	if want := fmt.Sprintf("sent to\t%d", ours.Partition); sentTo != want || ours.Partition != d.Partition {
		t.Errorf("the program says %q, its message came from partition %d, ours from %d", sentTo, d.Partition, ours.Partition)
	}
}
