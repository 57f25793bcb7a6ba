package embedded_test

import (
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/nats-io/nats-server/v2/server"
)

// A user without a right is told so at once, with the subject, and others of the
// same connection go on.
func TestUser_without_a_right_is_denied_at_once(t *testing.T) {
	drivertest.CheckLeaks(t)
	logVersion(t)
	ns, err := server.NewServer(&server.Options{
		Host: "127.0.0.1", Port: server.RANDOM_PORT, JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
		Users: []*server.User{
			{Username: "operator", Password: "x"},
			{Username: "shop", Password: "x", Permissions: &server.Permissions{Publish: &server.SubjectPermission{Deny: []string{
				"secret.*", "$JS.API.STREAM.CREATE.new", "$JS.API.CONSUMER.MSG.NEXT.closed.>", "$JS.API.CONSUMER.*.closed.>", "$JS.ACK.unsettled.>",
			}}}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ns.Start()
	t.Cleanup(func() { ns.Shutdown(); ns.WaitForShutdown() }) // after those who are connected
	if !ns.ReadyForConnections(10 * time.Second) {
		t.Fatal("the server is not ready")
	}
	operator := connect(t, natsbus.Options{URL: ns.ClientURL(), User: "operator", Password: "x"})
	c := connect(t, natsbus.Options{URL: ns.ClientURL(), User: "shop", Password: "x"})
	queue(t, operator, "secret")
	closed, unsettled := queue(t, operator, "closed"), queue(t, operator, "unsettled")
	queue(t, operator, "open")
	if err := operator.Send(t.Context(), numbered("unsettled", "k", 1)); err != nil {
		t.Fatal(err)
	}
	r, err := c.OpenReceiver(t.Context(), unsettled)
	if err != nil {
		t.Fatal(err)
	}
	ds, err := r.Receive(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	for what, call := range map[string]struct {
		subject string
		do      func() error
	}{
		"send":          {"secret.p0", func() error { return c.Send(t.Context(), numbered("secret", "k", 1)) }},
		"send a batch":  {"secret.p0", func() error { return c.Send(t.Context(), numbered("secret", "k", 500)) }},
		"provision":     {"$JS.API.STREAM.CREATE.new", func() error { return c.Provision(t.Context(), []driver.Channel{{Name: "new"}}, nil) }},
		"open receiver": {"$JS.API.CONSUMER.INFO.closed.worker", func() error { _, err := c.OpenReceiver(t.Context(), closed); return err }},
		"settle":        {"$JS.ACK.unsettled.", func() error { return r.Settle(t.Context(), []driver.Settlement{{Delivery: ds[0]}}) }},
	} {
		began := time.Now()
		err := call.do()
		if c.Classify(err) != driver.Denied || !strings.Contains(err.Error(), call.subject) {
			t.Errorf("%s: %v is %v, want it denied, with %s", what, err, c.Classify(err), call.subject)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("%s: told after %v, want it at once", what, took)
		}
	}
	both := append(numbered("secret", "k", 2), numbered("open", "k", 2)...)
	err = c.Send(t.Context(), both)
	failed, ok := err.(*driver.SendError)
	if !ok || len(failed.Failures) != 2 || failed.Failures[0].Index != 0 || failed.Failures[0].Unknown {
		t.Errorf("a batch for a denied channel and for another: %v, want the two of the first not sent", err)
	}
}
