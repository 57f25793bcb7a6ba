package verify

import (
	"context"
	"log/slog"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// lateConn is a connection to a broker on which a channel of the run appears when
// the first is removed: a process had asked for it and was killed.
type lateConn struct {
	driver.Conn
	late  string
	asked atomic.Bool
}

func (c *lateConn) Channels(ctx context.Context) ([]driver.ChannelInfo, error) {
	return c.Conn.(driver.Lister).Channels(ctx)
}

func (c *lateConn) RemoveGroup(ctx context.Context, channel, group string) error {
	return c.Conn.(driver.Remover).RemoveGroup(ctx, channel, group)
}

func (c *lateConn) RemoveChannel(ctx context.Context, channel string) error {
	err := c.Conn.(driver.Remover).RemoveChannel(ctx, channel)
	if !c.asked.Swap(true) {
		return c.Provision(ctx, []driver.Channel{{Name: c.late}}, nil)
	}
	return err
}

func init() {
	driver.Register("late", func(ctx context.Context, _ *url.URL) (driver.Conn, error) {
		conn, err := driver.Open(ctx, "mem:verify-clear")
		return &lateConn{Conn: conn, late: dovetail.ReplyPrefix + groupName("r7", "all")}, err
	})
}

func TestRun_removes_what_a_killed_process_still_makes(t *testing.T) {
	ctx := t.Context()
	conn, err := driver.Open(ctx, "mem:verify-clear")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if err := conn.Provision(ctx, []driver.Channel{{Name: "orders"}, {Name: eventName("r7"), Kind: driver.PublishSubscribe}}, nil); err != nil {
		t.Fatal(err)
	}
	r := &run{id: "r7"}
	r.Broker, r.Logger = "late:x", slog.New(slog.DiscardHandler)
	if err := r.clear(ctx); err != nil {
		t.Fatal(err)
	}
	left, err := conn.(driver.Lister).Channels(ctx)
	if err != nil || len(left) != 1 || left[0].Channel.Name != "orders" {
		t.Errorf("left: %+v, %v", left, err)
	}
}
