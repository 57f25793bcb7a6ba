package verify

import (
	"context"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
)

// books are a store of which only the outbox is asked for.
type books struct {
	Store
	held    []string
	waiting int64
}

func (b *books) unpublished(context.Context) ([]string, int64, error) { return b.held, b.waiting, nil }

func TestRun_finds_what_is_stuck(t *testing.T) {
	ctx := t.Context()
	conn, err := driver.Open(ctx, "mem:verify-stuck")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	r := &run{id: "r1", caps: driver.Capabilities{Order: driver.OrderOwner}, walked: []*path{pathOf(versions)},
		groups: []Group{{Name: "all"}, {Name: versions, Path: versions}}}
	r.Consumers, r.Broker = 1, "mem:verify-stuck"
	r.books = &books{held: []string{IDOf("tx", 0)}}
	main := driver.Channel{Name: eventName(r.id), Kind: driver.PublishSubscribe}
	if err := conn.Provision(ctx, []driver.Channel{main}, []driver.Subscription{{Channel: main, Group: groupName(r.id, "all"), Instance: "i", Window: 1}}); err != nil {
		t.Fatal(err)
	}
	if err := conn.Send(ctx, []*driver.Message{{Channel: main.Name, ID: "x", Source: "y", Type: "z.v1"}}); err != nil {
		t.Fatal(err)
	}
	c := NewChecker(r.groups)
	for i := range 4 {
		if err := c.Sent(Sent{ID: IDOf("tx", i), Tx: "tx", Key: "key", N: int64(i + 1), At: began}); err != nil {
			t.Fatal(err)
		}
	}
	if !c.missing() {
		t.Error("nothing is missing, where nothing was handled")
	}
	if notes := r.tellStill(ctx, c); len(notes) > 0 {
		t.Errorf("notes %q", notes)
	}
	v := c.Verdict()
	if v.Stuck != 2 || v.Lost != 2 {
		t.Fatalf("stuck %d, lost %d of 4: one is held, one is with the broker", v.Stuck, v.Lost)
	}
	where := v.Findings[2].Text + v.Findings[3].Text
	if !strings.Contains(where, "held in the outbox") || !strings.Contains(where, eventName(r.id)) {
		t.Errorf("%+v", v.Findings)
	}
}
