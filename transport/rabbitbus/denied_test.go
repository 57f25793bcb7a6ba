package rabbitbus_test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
)

// A user without a right is told so at once, with what it lacks, and others of
// the same connection go on.
func TestUser_without_a_right_is_denied_at_once(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	drivertest.CheckLeaks(t)
	o := optionsFor(t, srv)
	operator := connect(t, o)
	ctl(t, srv, "add_user", "denied-shop", "x")
	ctl(t, srv, "set_permissions", "denied-shop", "^denied-open.*", "^(denied-open.*|amq\\.default|dovetail.*)$", "^denied-open.*")
	secret := driver.Channel{Name: "denied-secret", Kind: driver.PublishSubscribe}
	open := driver.Subscription{Channel: driver.Channel{Name: "denied-open", Kind: driver.PublishSubscribe}, Group: "worker", Instance: "1", Window: 500}
	closed := driver.Subscription{Channel: secret, Group: "worker", Instance: "1", Window: 10}
	if err := operator.Provision(within(t), []driver.Channel{secret, open.Channel}, []driver.Subscription{open, closed}); err != nil {
		t.Fatal(err)
	}
	o.User, o.Password, o.Management = "denied-shop", "x", ""
	c := connect(t, o)
	message := func(channel string) []*driver.Message {
		ms := numbered(channel, 1, 1)
		return ms
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	slowest := time.Duration(0)
	wg.Go(func() { // who has the right
		for {
			began := time.Now()
			if err := c.Send(within(t), message("denied-open")); err != nil && c.Classify(err) != driver.Retryable {
				t.Errorf("send with the right: %v", err)
			}
			slowest = max(slowest, time.Since(began))
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
		}
	})
	for what, do := range map[string]func() error{
		"send":          func() error { return c.Send(within(t), message("denied-secret")) },
		"send many":     func() error { return c.Send(within(t), numbered("denied-secret", 200, 7)) },
		"provision":     func() error { return c.Provision(within(t), []driver.Channel{{Name: "denied-new"}}, nil) },
		"open receiver": func() error { _, err := c.OpenReceiver(within(t), closed); return err },
	} {
		for range 5 {
			began := time.Now()
			err := do()
			took := time.Since(began)
			if c.Classify(err) != driver.Denied || took > time.Second {
				t.Errorf("%s: %v after %v: want denied, within a second", what, err, took)
			} else if !strings.Contains(err.Error(), "denied-") || !strings.Contains(err.Error(), "refused for user 'denied-shop'") {
				t.Errorf("%s: %v: want what is denied, and to whom", what, err)
			}
		}
	}
	close(stop)
	wg.Wait()
	if slowest > time.Second {
		t.Errorf("a send with the right took up to %v", slowest)
	}
}
