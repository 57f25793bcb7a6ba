package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
)

// One group is removed with what waits for it, and the others keep theirs.
func TestTopologyRemove_removes_one_group(t *testing.T) {
	broker := "file:" + filepath.Join(t.TempDir(), "bus")
	conn, err := driver.Open(t.Context(), broker)
	if err != nil {
		t.Fatal(err)
	}
	ch := driver.Channel{Name: "ordering.order-placed", Kind: driver.PublishSubscribe}
	subs := []driver.Subscription{{Channel: ch, Group: "billing"}, {Channel: ch, Group: "mail"}}
	err = conn.Provision(t.Context(), []driver.Channel{ch}, subs)
	if err == nil {
		err = conn.Send(t.Context(), []*driver.Message{{Channel: ch.Name, ID: "1", Source: "ordering", Type: "ordering.order-placed.v1"}})
	}
	if err == nil {
		err = conn.Close(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (said string, err error) {
		var out, errs bytes.Buffer
		root := newApp(strings.NewReader(""), &out, &errs).root()
		root.SetArgs(append([]string{"topology", "remove", ch.Name, "--broker", broker}, args...))
		err = root.ExecuteContext(t.Context())
		return out.String() + errs.String(), err
	}
	if _, err := run("--group", "billing", "--yes"); err == nil || !strings.Contains(err.Error(), "group billing of channel ordering.order-placed has 1 message that is not handled: let its services handle them, or say --force to remove it all the same") {
		t.Errorf("with a message: %v", err)
	}
	if _, err := run("--group", "bills", "--yes", "--force"); err == nil || !strings.Contains(err.Error(), "has no group bills: it has billing, mail") {
		t.Errorf("a group that is not there: %v", err)
	}
	if said, err := run("--group", "billing", "--yes", "--force"); err != nil || !strings.Contains(said, "group billing of channel ordering.order-placed removed") {
		t.Errorf("it says %q, %v", said, err)
	}
	if conn, err = driver.Open(t.Context(), broker); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(t.Context()) }()
	all, err := conn.(driver.Lister).Channels(t.Context())
	if err != nil || len(all) != 1 || len(all[0].Groups) != 1 || all[0].Groups[0].Name != "mail" || all[0].Groups[0].Backlog != 1 {
		t.Errorf("left are %+v, %v", all, err)
	}
}
