package drivertest

import (
	"bytes"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A Program knows the engine, by the client that most who write in its language
// use, and nothing of Dovetail. It reads one message and prints it, a field a
// line, as name, tab and value, with "header NAME" for headers and "body"; then
// it sends the CloudEvent that [Interop] describes.
type Program struct {
	// Name is that of its language.
	Name string

	// Command runs it. The names of the channels that it reads and writes are
	// added, the latter with Suffix.
	Command []string
	Suffix  string

	// Partitions are those of both channels; 0 for the transport's default.
	Partitions int

	// Prefix is that of the headers that are attributes, and ContentType the
	// name of the line with the content type, "header" and all. Repeats says that
	// the client knows headers that occur more than once.
	Prefix, ContentType string
	Repeats             bool

	// Prints are the other lines that it should print. Those for which Own is
	// true are for the test to look at.
	Prints []string
	Own    func(line string) bool

	// Key is that of the event that it sends, and Headers are what it has beyond
	// the attributes, as Dovetail reads them.
	Key     string
	Headers driver.Headers
}

// Interop has a program read a message of ours, with all of its attributes, and
// send an event of its own: with id NAME/1, source /NAME, type
// ordering.order-placed.v1, time 2010-12-01T08:26:00Z, the body of what it read
// and an extension. The program prints what it read as we sent it, and we read what
// it sent as it did. Interop returns subscriptions of both channels, of which ours
// is not provisioned, what came from the program, and those lines that are its own.
func Interop(t *testing.T, h Harness, p Program) (ours, theirs driver.Subscription, came *driver.Delivery, own []string) {
	h = h.withDefaults()
	e := newEnv(t, h, capabilities(t, h), &gapTable{}, "program")
	c := e.conn()
	subscription := func() driver.Subscription {
		ch := e.channel(driver.PointToPoint)
		ch.Partitions = p.Partitions
		return e.subscription(ch, "worker")
	}
	ours, theirs = subscription(), subscription()
	e.provision(c, []driver.Channel{ours.Channel, theirs.Channel}, []driver.Subscription{theirs})
	const body = `{"sku":"85123A","name":"铁皮 lantern"}`
	const id, key = "536 365", "顾客 100%"
	headers := driver.Headers{{Name: "tenant", Value: "acme"}}
	if p.Repeats {
		headers = append(headers, driver.Header{Name: "tag", Value: "a"}, driver.Header{Name: "tag", Value: "b"})
	}
	e.send(c, &driver.Message{
		Channel: ours.Channel.Name, ID: id, Source: "ordering", Type: "ordering.order-placed.v1",
		Time: time.Date(2010, 12, 1, 8, 26, 0, 123456000, time.UTC), ContentType: "application/json",
		Key: key, CorrelationID: "c", CausationID: "d", ReplyTo: "reply.x", Headers: headers, Body: []byte(body),
	})
	ctx, cancel := e.within()
	defer cancel()
	cmd := exec.CommandContext(ctx, p.Command[0], append(slices.Clone(p.Command[1:]), ours.Channel.Name, theirs.Channel.Name+p.Suffix)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &stdout, &stderr, time.Second
	cmd.Env = append(cmd.Environ(), "PYTHONIOENCODING=utf-8")
	if err := cmd.Run(); err != nil {
		e.Fatalf("%s: %v\n%s%s", p.Name, err, stdout.String(), stderr.String())
	}
	got := strings.Split(strings.TrimSuffix(stdout.String(), "\n"), "\n")
	if p.Own != nil {
		for _, line := range got {
			if p.Own(line) {
				own = append(own, line)
			}
		}
		got = slices.DeleteFunc(got, p.Own)
	}
	want := append(slices.Clone(p.Prints), "body\t"+body, p.ContentType+"\tapplication/json")
	for _, h := range headers {
		want = append(want, "header "+h.Name+"\t"+h.Value)
	}
	for name, value := range map[string]string{
		"specversion": driver.SpecVersion, "id": id, "source": "ordering", "type": "ordering.order-placed.v1", "time": "2010-12-01T08:26:00.123456Z",
		"partitionkey": key, "correlationid": "c", "causationid": "d", "replyto": "reply.x",
	} {
		want = append(want, "header "+p.Prefix+name+"\t"+value)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		e.Errorf("the program read\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}

	r := e.receiver(c, theirs)
	came = e.one(r)
	e.settle(r, driver.Ack, came)
	e.closeReceiver(r)
	m := came.Message
	if came.Fault != nil || m.ID != p.Name+"/1" || m.Source != "/"+p.Name || m.Type != "ordering.order-placed.v1" ||
		!m.Time.Equal(time.Date(2010, 12, 1, 8, 26, 0, 0, time.UTC)) || m.Key != p.Key || m.ContentType != "application/json" || string(m.Body) != body {
		e.Errorf("it came as %+v, fault %v", m, came.Fault)
	}
	if !slices.Equal(m.Headers, p.Headers) {
		e.Errorf("its headers are %v, want %v", m.Headers, p.Headers)
	}
	return ours, theirs, came, own
}
