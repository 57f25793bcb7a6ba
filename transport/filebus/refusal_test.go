package filebus

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
)

// Too large a message, and whatever is not as it was provisioned.
func TestRefusals_name_remedies_that_are_right(t *testing.T) {
	drivertest.CheckLeaks(t)
	queue, topic := driver.Channel{Name: "orders"}, driver.Channel{Name: "orders", Kind: driver.PublishSubscribe}
	provision := func(ch driver.Channel, group string) func(context.Context, *Conn) error {
		return func(ctx context.Context, c *Conn) error {
			var subs []driver.Subscription
			if group != "" {
				subs = append(subs, driver.Subscription{Channel: ch, Group: group})
			}
			return c.Provision(ctx, []driver.Channel{ch}, subs)
		}
	}
	send := func(size int) func(context.Context, *Conn) error {
		return func(ctx context.Context, c *Conn) error {
			return c.Send(ctx, []*driver.Message{{Channel: "orders", ID: "1", Body: make([]byte, size)}})
		}
	}
	remove := func(ctx context.Context, c *Conn) error { return c.RemoveChannel(ctx, "orders") }
	removeGroup := func(ctx context.Context, c *Conn) error { return c.RemoveGroup(ctx, "orders", "old") }
	none := func(context.Context, *Conn) error { return nil }
	parts := func(n int) driver.Channel { return driver.Channel{Name: "orders", Partitions: n} }
	type does = func(context.Context, *Conn) error
	for name, m := range map[string]struct {
		before, wrong does
		says          string
		remedy, right does
		opts, then    Options
	}{
		"no channel":          {none, send(1), "provision it first", provision(queue, ""), send(1), Options{}, Options{}},
		"another kind":        {provision(queue, ""), provision(topic, ""), "rename one of them, or remove the channel", remove, provision(topic, ""), Options{}, Options{}},
		"another kind, named": {provision(queue, ""), provision(topic, ""), "rename one of them", none, provision(driver.Channel{Name: "orders.2", Kind: driver.PublishSubscribe}, ""), Options{}, Options{}},
		"partitions":          {provision(parts(2), ""), provision(parts(3), ""), "or declare 2", none, provision(parts(2), ""), Options{}, Options{}},
		"partitions, removed": {provision(parts(2), ""), provision(parts(3), ""), "remove it (dovetail topology remove orders)", remove, provision(parts(3), ""), Options{}, Options{}},
		"partitions of the URL": {provision(queue, ""), provision(parts(3), ""), "or partitions=8 in the URL", remove, provision(parts(3), ""),
			Options{}, Options{Partitions: 3}},
		"too many partitions":     {none, provision(parts(257), ""), "want at most 256", none, provision(parts(256), ""), Options{}, Options{}},
		"transient":               {provision(driver.Channel{Name: "orders", Transient: true}, ""), provision(queue, ""), "remove the channel first", remove, provision(queue, ""), Options{}, Options{}},
		"a second group":          {provision(queue, "old"), provision(queue, "new"), "this one has old: use its name; or remove that group", none, provision(queue, "old"), Options{}, Options{}},
		"a second group, removed": {provision(queue, "old"), provision(queue, "new"), "remove that group (dovetail topology remove orders --group old)", removeGroup, provision(queue, "new"), Options{}, Options{}},
		"a second group, of a topic": {provision(queue, "old"), provision(queue, "new"), "remove the channel and provision it as publish-subscribe",
			func(ctx context.Context, c *Conn) error {
				return errors.Join(remove(ctx, c), provision(topic, "old")(ctx, c))
			},
			provision(topic, "new"), Options{}, Options{}},
		"a large message":         {provision(queue, ""), send(2000), "and max-bytes is 1000: send a reference", none, send(100), Options{MaxBytes: 1000}, Options{MaxBytes: 1000}},
		"a large message, raised": {provision(queue, ""), send(2000), "or raise it", none, send(2000), Options{MaxBytes: 1000}, Options{MaxBytes: 4000}},
	} {
		b := newBench(t, m.opts)
		c := must(Open(t.Context(), b.opts))
		if err := m.before(b.ctx(), c); err != nil {
			t.Fatal(err)
		}
		if err := m.wrong(b.ctx(), c); err == nil || !strings.Contains(err.Error(), m.says) {
			t.Errorf("%s: error %v, want one that says %q", name, err, m.says)
		}
		b.close(c)
		m.then.Dir = b.opts.Dir
		c = must(Open(t.Context(), m.then))
		if err := errors.Join(m.remedy(b.ctx(), c), m.right(b.ctx(), c)); err != nil {
			t.Errorf("%s, once that was done: %v", name, err)
		}
		b.close(c)
	}
}

func TestOptions_are_refused_with_a_remedy_that_is_right(t *testing.T) {
	drivertest.CheckLeaks(t)
	for says, m := range map[string][2]Options{
		"option Expire is -1ns: want 0 for the default, or more":    {{Expire: -1}, {Expire: 0}},
		"option Sync is 7: want SyncAlways or SyncOS":               {{Sync: 7}, {Sync: SyncOS}},
		"option Partitions is 257: want 1 to 256":                   {{Partitions: 257}, {Partitions: 256}},
		"option SegmentBytes is 1: want 65536 to 1073741824":        {{SegmentBytes: 1}, {SegmentBytes: 65536}},
		"option MaxBytes is -1: want 1 to " + strconv.Itoa(256<<20): {{MaxBytes: -1}, {MaxBytes: 256 << 20}},
	} {
		m[0].Dir, m[1].Dir = filepath.Join(t.TempDir(), "bus"), filepath.Join(t.TempDir(), "bus")
		if _, err := Open(t.Context(), m[0]); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("error %v, want one that says %q", err, says)
		}
		c, err := Open(t.Context(), m[1])
		if err != nil {
			t.Errorf("%s: once that was done: %v", says, err)
			continue
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
	}
}
