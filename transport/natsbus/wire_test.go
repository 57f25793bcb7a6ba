package natsbus

import (
	"slices"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
)

// over takes a message through the client's own encoder and decoder.
func over(t testing.TB, m *driver.Message) (*driver.Message, error) {
	t.Helper()
	msg := newEncoder().encode(m)
	raw := []byte("NATS/1.0\r\n")
	for name, values := range msg.Header {
		for _, v := range values {
			raw = append(raw, name+": "+v+"\r\n"...)
		}
	}
	h, err := nats.DecodeHeadersMsg(append(raw, "\r\n"...))
	if err != nil {
		t.Fatal(err)
	}
	got := &driver.Message{}
	return got, decode(got, m.Channel, h, msg.Data)
}

func TestEncode_carries_headers_that_NATS_would_change_or_act_on(t *testing.T) {
	want := driver.Headers{
		{Name: "Nats-Rollup", Value: "all"}, {Name: "Status", Value: "503"}, {Name: "a=b c:d", Value: "%41"}, {Name: "ce-id", Value: "not the id"},
		{Name: "a%41=\"(b)[c]{d}<e>,;/?@\\", Value: "each"},
		{Name: "ce-extension", Value: "kept"}, {Name: "dovetail-header", Value: "x=y"}, {Name: "spaces", Value: " both ends "}, {Name: "ünïcode", Value: "日本"},
		{Name: "twice", Value: "1"}, {Name: "twice", Value: "2"},
	}
	m := &driver.Message{ID: "1", Source: "s", Type: "t", Headers: slices.Clone(want), Timeout: 3 * time.Second}
	if h := newEncoder().encode(m).Header; h.Get("Nats-Rollup") != "" || h.Get("Status") != "" {
		t.Errorf("a header reached the server that speaks to it: %v", h)
	}
	got, err := over(t, m)
	if err != nil {
		t.Fatal(err)
	}
	byName := func(a, b driver.Header) int {
		if a.Name == b.Name {
			return 0
		}
		if a.Name < b.Name {
			return -1
		}
		return 1
	}
	slices.SortStableFunc(want, byName)
	slices.SortStableFunc(got.Headers, byName)
	if !slices.Equal(got.Headers, want) || got.ID != "1" || got.Timeout != 3*time.Second {
		t.Errorf("got %q\nwant %q", got.Headers, want)
	}
}

func TestDecode_reports_what_it_cannot_read_and_keeps_it(t *testing.T) {
	m := &driver.Message{}
	err := decode(m, "c", nats.Header{"ce-id": {"7"}, "ce-time": {"yesterday"}, "x": {"y"}}, []byte("body"))
	if err == nil || m.ID != "7" || string(m.Body) != "body" {
		t.Errorf("fault %v, message %+v", err, m)
	}
	if m.Headers.Get("ce-time") != "yesterday" || m.Headers.Get("x") != "y" {
		t.Errorf("headers %v: want the unreadable one kept", m.Headers)
	}
}

func TestPlaceOf_reads_both_forms(t *testing.T) {
	want := place{attempt: 3, stream: 41, consumer: 52, pending: 7}
	for _, reply := range []string{"$JS.ACK.orders.worker.3.41.52.1700000000000000000.7", "$JS.ACK.hub.ACCHASH.orders.worker.3.41.52.1700000000000000000.7",
		"$JS.ACK._.ACCHASH.orders.worker.3.41.52.1700000000000000000.7.rAnDom"} {
		if p, ok := placeOf(reply); !ok || p != want {
			t.Errorf("%s: %+v, %v", reply, p, ok)
		}
	}
	for _, reply := range []string{"", "_INBOX.x", "$JS.ACK.a", "$JS.ACK.a.b.c.d.e.f.g"} {
		if p, ok := placeOf(reply); ok {
			t.Errorf("%q was read as %+v", reply, p)
		}
	}
}

func TestPartition_is_in_the_subject(t *testing.T) {
	for _, k := range []int{0, 7, maxPartitions - 1} {
		if got := partitionOf(partitionSubject("a.b", k)); got != k {
			t.Errorf("partition %d is read from its subject as %d", k, got)
		}
	}
	for _, s := range []string{"a.b", "a.t", "a.p", "a.pX", "", "p7"} {
		if k := partitionOf(s); k != 0 {
			t.Errorf("subject %q is of partition %d, want 0", s, k)
		}
	}
}

func TestReceipts_are_removed_from_anywhere(t *testing.T) {
	var l receipts
	rs := make([]receipt, 4)
	for i := range rs {
		rs[i].seq = uint64(i)
		l.add(&rs[i])
	}
	for _, i := range []int{1, 3, 0, 0, 2} {
		l.remove(&rs[i])
		if l.find(uint64(i)) != nil {
			t.Errorf("%d is still there", i)
		}
	}
	if l.n != 0 || l.first != nil || l.last != nil {
		t.Errorf("not empty: %+v", l)
	}
}

func BenchmarkEncode(b *testing.B) {
	m := &driver.Message{ID: "0197f2a1-0000-7000-8000-100000000000", Source: "ordering", Type: "ordering.order-placed.v1", Time: time.Now(),
		ContentType: "application/json", Key: "customer-1", Body: make([]byte, 1024)}
	e := newEncoder()
	b.ReportAllocs()
	for b.Loop() {
		e.encode(m)
	}
}
