package kafkabus_test

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A program without Dovetail reads what we send: CloudEvents in binary mode.
func TestInterop_a_plain_client_reads_our_messages(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	c := connect(t, options(s))
	ch := driver.Channel{Name: "read-by-others", Partitions: 4}
	provision(t, c, ch)
	m := &driver.Message{Channel: ch.Name, ID: "1", Source: "catalog", Type: "catalog.stock-ran-low.v1", Key: "85123A",
		Time: time.Date(2026, 2, 28, 23, 59, 59, 0, time.UTC), ContentType: "application/json",
		Headers: driver.Headers{{Name: "traceparent", Value: "00-1-2-01"}}, Body: []byte(`{"left":3}`)}
	if err := c.Send(t.Context(), []*driver.Message{m}); err != nil {
		t.Fatal(err)
	}
	got := plain(t, s, kgo.ConsumeTopics(ch.Name)).PollFetches(t.Context()).Records()
	if len(got) != 1 || string(got[0].Key) != "85123A" || string(got[0].Value) != `{"left":3}` {
		t.Fatalf("read %d records: %+v", len(got), got)
	}
	want := map[string]string{"ce_specversion": "1.0", "ce_id": "1", "ce_source": "catalog", "ce_type": "catalog.stock-ran-low.v1",
		"ce_time": "2026-02-28T23:59:59Z", "ce_partitionkey": "85123A", "content-type": "application/json", "traceparent": "00-1-2-01"}
	for _, h := range got[0].Headers {
		if want[h.Key] != string(h.Value) {
			t.Errorf("header %s = %q, want %q", h.Key, h.Value, want[h.Key])
		}
		delete(want, h.Key)
	}
	if len(want) > 0 {
		t.Errorf("headers are missing: %v", want)
	}
}

// Others' messages are read, whatever is in them, and never end a subscription.
func TestInterop_we_read_what_a_plain_client_sends(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	c := connect(t, options(s))
	sub := subscription("sent-by-others", 1)
	provision(t, c, sub.Channel, sub)
	header := func(k, v string) kgo.RecordHeader { return kgo.RecordHeader{Key: k, Value: []byte(v)} }
	records := []*kgo.Record{
		{Key: []byte("85123A"), Value: []byte("{}"), Headers: []kgo.RecordHeader{header("ce_specversion", "1.0"), header("ce_id", "7"),
			header("ce_source", "/legacy"), header("ce_type", "order"), header("content-type", "application/json"), header("ce_dataschema", "x")}},
		// A schema registry's key, a LongSerializer's header, and the stack trace of a framework.
		{Key: []byte("\x00\x00\x00\x00\x07key"), Value: nil, Headers: []kgo.RecordHeader{{Key: "null"}, header("binary", "\x00\x00\x00\x00\x00\x00\x00\x2a"),
			header("trace", "java.lang.IllegalStateException\n\tat Main"), header("ce_extension", "\xff")}},
		{Value: []byte("bad"), Headers: []kgo.RecordHeader{header("ce_id", "\xff"), header("ce_time", "yesterday"), header("x", "y")}},
		{Value: []byte(`{"specversion":"1.0","id":"8","source":"/s","type":"order"}`),
			Headers: []kgo.RecordHeader{header("Content-Type", "application/cloudevents+json; charset=UTF-8")}},
		{Value: []byte("last")},
	}
	for _, r := range records {
		r.Topic = sub.Channel.Name
	}
	if err := plain(t, s).ProduceSync(t.Context(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	r := open(t, c, sub)
	ds := receive(t, r, len(records))
	m := ds[0].Message
	if ds[0].Fault != nil || m.ID != "7" || m.Source != "/legacy" || m.Type != "order" || m.Key != "85123A" ||
		m.ContentType != "application/json" || m.Headers.Get("ce_dataschema") != "x" {
		t.Errorf("a CloudEvent came as %+v, fault %v", m, ds[0].Fault)
	}
	m = ds[1].Message
	if ds[1].Fault != nil || m.Key != "base64:AAAAAAdrZXk=" || m.Headers.Get("binary") != "base64:AAAAAAAAACo=" || len(m.Body) != 0 || m.Type != "" ||
		m.Headers.Get("trace") != driver.ForeignText(records[1].Headers[2].Value) || m.Headers.Get("ce_extension") != "base64:/w==" {
		t.Errorf("bytes that are no text came as %+v, fault %v", m, ds[1].Fault)
	}
	again := m.Clone() // as a requeue sends it
	again.Channel = sub.Channel.Name
	m = ds[2].Message
	if ds[2].Fault == nil || string(m.Body) != "bad" || m.Headers.Get("ce_time") != "yesterday" || m.ID != "base64:/w==" || m.Headers.Get("x") != "y" {
		t.Errorf("attributes that cannot be read came as %+v, fault %v", m, ds[2].Fault)
	}
	m = ds[3].Message
	if m.ContentType != "application/cloudevents+json; charset=UTF-8" || m.Type != "" || string(m.Body) != string(records[3].Value) || ds[3].Fault != nil {
		t.Errorf("a structured CloudEvent came as %+v, fault %v", m, ds[3].Fault)
	}
	m = ds[4].Message
	if string(m.Body) != "last" || m.Type != "" || m.ID != "" || m.ContentType != "" || ds[4].Fault != nil {
		t.Errorf("a record without headers: %+v, fault %v", m, ds[4].Fault)
	}
	ack(t, r, ds...)
	if err := c.Send(t.Context(), []*driver.Message{again}); err != nil {
		t.Fatal(err)
	}
	back := plain(t, s, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{sub.Channel.Name: {0: kgo.NewOffset().At(int64(len(records)))}})).
		PollFetches(t.Context()).Records()
	if len(back) != 1 || string(back[0].Key) != string(records[1].Key) || string(back[0].Headers[len(back[0].Headers)-3].Value) != string(records[1].Headers[1].Value) {
		t.Errorf("sent again it is %+v, want the bytes that came", back)
	}
}

// Keys go where Java's client, and others with its hash, put them.
func TestInterop_keys_share_partitions_with_other_clients(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	c := connect(t, options(s))
	sub := subscription("co-partitioned", 7)
	provision(t, c, sub.Channel, sub)
	theirs := plain(t, s, kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)))
	var ms []*driver.Message
	var rs []*kgo.Record
	for i := range 100 {
		key := "key-" + strconv.Itoa(i*i)
		ms = append(ms, &driver.Message{Channel: sub.Channel.Name, ID: "ours/" + key, Key: key})
		rs = append(rs, &kgo.Record{Topic: sub.Channel.Name, Key: []byte(key)})
	}
	if err := c.Send(t.Context(), ms); err != nil {
		t.Fatal(err)
	}
	if err := theirs.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	r := open(t, c, sub)
	at := map[string]int{}
	for range 200 {
		d := receive(t, r, 1)[0]
		if p, seen := at[d.Message.Key]; seen && p != d.Partition {
			t.Errorf("key %s is in partitions %d and %d", d.Message.Key, p, d.Partition)
		}
		at[d.Message.Key] = d.Partition
		ack(t, r, d)
	}
}

// Messages without a key are spread over the partitions.
func TestSend_spreads_what_has_no_key(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	c := connect(t, options(s))
	sub := subscription("spread", 3)
	provision(t, c, sub.Channel, sub)
	for i := range 30 {
		if err := c.Send(t.Context(), []*driver.Message{{Channel: sub.Channel.Name, ID: fmt.Sprint(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, c, sub)
	parts := map[int]int{}
	for _, d := range receive(t, r, 30) {
		parts[d.Partition]++
		ack(t, r, d)
	}
	if len(parts) != 3 {
		t.Errorf("30 messages without a key went to partitions %v", parts)
	}
}
