package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/store"
)

// A patient is a broker that fails at what the test names, and lists what it
// says, the last list again and again.
type patient struct {
	driver.Conn
	fails map[string]error
	lists [][]driver.ChannelInfo
	finds []driver.Finding
}

func (p *patient) Examine(context.Context) ([]driver.Finding, error) {
	return p.finds, p.fails["health"]
}

func (p *patient) Provision(ctx context.Context, chs []driver.Channel, subs []driver.Subscription) error {
	if err := p.fails["make a channel"]; err != nil {
		return err
	}
	return p.Conn.Provision(ctx, chs, subs)
}

func (p *patient) Send(ctx context.Context, ms []*driver.Message) error {
	if err := p.fails["send"]; err != nil {
		return err
	}
	return p.Conn.Send(ctx, ms)
}

func (p *patient) OpenReceiver(ctx context.Context, s driver.Subscription) (driver.Receiver, error) {
	if err := p.fails["receive"]; err != nil {
		return nil, err
	}
	return p.Conn.OpenReceiver(ctx, s)
}

func (p *patient) RemoveChannel(ctx context.Context, name string) error {
	return p.fails["remove a channel"]
}

func (p *patient) Close(ctx context.Context) error {
	if err := p.fails["close"]; err != nil {
		return err
	}
	return p.Conn.Close(ctx)
}

func (p *patient) RemoveGroup(context.Context, string, string) error { return nil }

func (p *patient) Channels(context.Context) ([]driver.ChannelInfo, error) {
	if err := p.fails["channels"]; err != nil {
		return nil, err
	}
	list := p.lists[0]
	if len(p.lists) > 1 {
		p.lists = p.lists[1:]
	}
	return list, nil
}

// newPatient is one that fails at nothing yet.
func newPatient(t *testing.T, lists ...[]driver.ChannelInfo) *patient {
	t.Helper()
	conn, err := driver.Open(t.Context(), "mem:")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return &patient{Conn: conn, fails: map[string]error{}, lists: append(lists, nil)[:max(1, len(lists))]}
}

// examine returns what a doctor finds, and fails the test for whatever is wrong
// without a remedy.
func examine(t *testing.T, look func(ctx context.Context, d *doctor)) []checkup {
	t.Helper()
	d := &doctor{a: &app{timeout: time.Minute}}
	look(t.Context(), d)
	for _, c := range d.checks {
		if (c.State == warning || c.State == broken) && c.Remedy == "" {
			t.Errorf("%s is %s and has no remedy: %s", c.Check, c.State, c.Detail)
		}
		if c.State == fine && c.Remedy != "" {
			t.Errorf("%s is fine and has the remedy %s", c.Check, c.Remedy)
		}
	}
	return d.checks
}

// says checks that a finding is there, with words of its detail and its remedy.
func says(t *testing.T, all []checkup, check, state, detail, remedy string) {
	t.Helper()
	for _, c := range all {
		if c.Check == check && c.State == state && strings.Contains(c.Detail, detail) && strings.Contains(c.Remedy, remedy) {
			return
		}
	}
	t.Errorf("want %s, %s: %q → %q; got %+v", check, state, detail, remedy, all)
}

// Whatever fails at a broker is said with what helps, by the kind of the error.
func TestDoctor_names_a_remedy_for_what_fails_at_a_broker(t *testing.T) {
	for _, c := range []struct {
		err    error
		remedy string
	}{
		{driver.ErrDenied, "look at user, password and permissions of the broker's URL"},
		{driver.ErrRetryable, "look whether the broker runs and is reached from here; dovetail up starts one"},
		{driver.ErrConflict, "change what the error names, or name the service otherwise"},
		{driver.ErrTooLarge, "raise the broker's limit on the size of messages"},
		{driver.ErrNotFound, "do what the error says, or look at the broker's log"},
		{errors.New("anything"), "do what the error says, or look at the broker's log"},
	} {
		for _, doing := range []string{"make a channel", "send", "receive", "remove a channel", "channels"} {
			p := newPatient(t)
			p.fails[doing] = fmt.Errorf("no: %w", c.err)
			all := examine(t, func(ctx context.Context, d *doctor) { d.scratch(ctx, p); d.channels(ctx, p) })
			says(t, all, "broker: "+doing, broken, "no: ", c.remedy)
			p.fails[doing] = nil // what the remedy brings about
			for _, found := range examine(t, func(ctx context.Context, d *doctor) { d.scratch(ctx, p); d.channels(ctx, p) }) {
				if found.State != fine {
					t.Errorf("then: %+v", found)
				}
			}
		}
	}
}

// What a broker says is wrong with it is told, and what stands still is a failure.
func TestDoctor_tells_what_is_wrong_with_a_broker(t *testing.T) {
	p := newPatient(t)
	look := func(ctx context.Context, d *doctor) { d.health(ctx, p) }
	says(t, examine(t, look), "broker: health", fine, "", "")
	p.finds = []driver.Finding{
		{Subject: "partitions", Problem: "stand still", Concerns: []string{"a/0", "a/1", "a/2", "a/3", "a/4"}, Remedy: "start 2", Stops: true},
		{Subject: "broker 3", Problem: "is away", Concerns: []string{"a/0"}, Remedy: "start it"},
	}
	all := examine(t, look)
	says(t, all, "broker: health", broken, "partitions: stand still: a/0, a/1, a/2 and 2 more", "start 2")
	says(t, all, "broker: health", warning, "broker 3: is away: a/0", "start it")
	p.finds = nil
	p.fails["health"] = fmt.Errorf("set management=: %w", driver.ErrUnsupported)
	says(t, examine(t, look), "broker: health", skipped, "set management=", "")
	p.fails["health"] = fmt.Errorf("no: %w", driver.ErrDenied)
	says(t, examine(t, look), "broker: health", warning, "no: ", "look at user, password and permissions")
}

// What a transport cannot is no failure.
func TestDoctor_says_what_a_transport_cannot(t *testing.T) {
	p := newPatient(t)
	bare := struct{ driver.Conn }{p.Conn} // neither lists nor removes
	all := examine(t, func(ctx context.Context, d *doctor) {
		d.scratch(ctx, bare)
		d.channels(ctx, bare)
		d.version(ctx, bare)
	})
	says(t, all, "broker: remove a channel", warning, "this transport cannot; dovetail-doctor.", "remove it with the broker's own tools")
	says(t, all, "broker: channels", skipped, "this transport cannot list them", "")
	p.fails["channels"] = fmt.Errorf("set management=: %w", driver.ErrUnsupported)
	says(t, examine(t, func(ctx context.Context, d *doctor) { d.channels(ctx, p) }), "broker: channels", skipped, "set management=", "")
	for _, c := range []struct {
		caps          driver.Capabilities
		state, detail string
	}{
		{driver.Capabilities{Name: "x", Durable: true}, fine, "x keeps what it confirmed; no order"},
		{driver.Capabilities{Name: "x", Durable: true, Order: driver.OrderOwner}, fine, "order by key across instances"},
		{driver.Capabilities{Name: "x", Durable: true, Order: driver.OrderInstance, PartitionOwners: true}, fine, "on channels with partitions (partitions=8 in the URL)"},
		{driver.Capabilities{Name: "x"}, warning, "x does not keep what it confirmed"},
	} {
		remedy := map[string]string{warning: "use a durable transport for what must not be lost"}[c.state]
		says(t, examine(t, func(_ context.Context, d *doctor) { d.abilities(c.caps) }), "broker: promises", c.state, c.detail, remedy)
	}
}

// What is kept and what waits is there until somebody has done what is said.
func TestDoctor_says_what_is_kept_and_what_waits(t *testing.T) {
	channel := func(name string, messages, backlog int64) driver.ChannelInfo {
		info := driver.ChannelInfo{Channel: driver.Channel{Name: name}, Messages: messages}
		if backlog >= 0 {
			info.Groups = []driver.GroupInfo{{Name: "mail", Backlog: backlog, Pending: -1}}
		}
		return info
	}
	ch := func(infos ...driver.ChannelInfo) []driver.ChannelInfo { return infos }
	waits := dovetail.UnhandledChannel("mail", "mail", "order.v1")
	for name, c := range map[string]struct {
		before, after []driver.ChannelInfo
		check         string
		detail        string
		remedy        string
	}{
		"dead letters": {ch(channel("dead.mail", 2, -1)), ch(channel("dead.mail", 0, -1)), "dead letters", "service mail has 2",
			"dovetail dead list --service mail says why; dovetail dead requeue or discard empties the channel"},
		"dead letters that nobody counts": {ch(channel("dead.mail", -1, -1)), nil, "dead letters", "service mail has some", "dovetail dead list --service mail"},
		"waiting for a version": {ch(channel(waits, 3, -1)), ch(channel(waits, 0, -1)), "waiting", "service mail has 3 of a type that none of its instances handled",
			"start a version that handles it: they go there by themselves; dovetail dead list --service mail shows them"},
		"nobody receives": {ch(channel("work", 1, -1)), ch(channel("work", 1, 0)), "broker: channel work", "has 1 messages, and no service receives from it",
			"start the service that handles them; dovetail topology remove work --force deletes them with the channel"},
		"nobody gets on": {ch(channel("work", 5, 5)), ch(channel("work", 4, 4)), "broker: group mail of work", "5 messages wait, and there were 5 of them 2s ago; some in hand",
			"start the service, or more instances of it; where it runs, its log and Service.Stuck say what it waits for"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				look := func(lists ...[]driver.ChannelInfo) []checkup {
					p := &patient{lists: lists}
					return examine(t, func(ctx context.Context, d *doctor) { d.channels(ctx, p) })
				}
				says(t, look(c.before), c.check, warning, c.detail, c.remedy)
				for _, found := range look(c.before, c.after) {
					if strings.HasPrefix(found.Check, "broker: group") {
						t.Errorf("it gets on, and %+v", found)
					}
				}
				for _, found := range look(c.after, nil) {
					if found.State != fine {
						t.Errorf("once that was done: %+v", found)
					}
				}
			})
		})
	}
}

// An ailing store has what the test says, and the errors.
type ailing struct {
	database
	stats         store.Stats
	held          []store.Held
	now           time.Time
	elsewhere     bool
	err, browsing error
}

func (a ailing) Shards() int { return 1 }
func (a ailing) Stats(context.Context, int) (store.Stats, error) {
	return a.stats, a.err
}
func (a ailing) Browse(_ context.Context, _ int, after store.Position, _ int) ([]store.Held, error) {
	if after != (store.Position{}) {
		return nil, a.browsing
	}
	return a.held, a.browsing
}
func (a ailing) Close() error                                   { return a.err }
func (a ailing) clock(context.Context) (time.Time, bool, error) { return a.now, a.elsewhere, a.err }

func TestDoctor_names_a_remedy_for_what_ails_a_store(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		look := func(a ailing) []checkup {
			return examine(t, func(ctx context.Context, d *doctor) { d.clock(ctx, a); d.outbox(ctx, a) })
		}
		away := errors.New("the server is away")
		var held store.Held
		held.Position.Seq, held.Lane.Channel, held.Lane.Attempts, held.Lane.Error = 1, "orders", 3, "too large"
		all := look(ailing{err: away})
		says(t, all, "store: clock", warning, "the server is away", storeRemedy)
		says(t, all, "outbox", broken, "the server is away", storeRemedy)
		all = look(ailing{elsewhere: true, now: time.Now().Add(-3 * time.Second), stats: store.Stats{Backlog: 4, Later: 1, Oldest: time.Now().Add(-2 * time.Minute)}})
		says(t, all, "store: clock", warning, "is -3s off this machine's", "have both follow NTP")
		says(t, all, "outbox", warning, "backlog 4, held 0, for later 1, the oldest for 2m0s", "run the service, or dovetail relay, and look at its log")
		all = look(ailing{elsewhere: true, now: time.Now().Add(time.Second), stats: store.Stats{Backlog: 4, Held: 2}, held: []store.Held{held}})
		says(t, all, "store: clock", fine, "is 1s off this machine's, measured to 0s", "")
		says(t, all, "outbox", fine, "backlog 4, held 2", "")
		says(t, all, "outbox: held", warning, "2 messages are set aside, with their keys, the first on channel orders after 3 attempts: too large",
			"dovetail outbox held says why of each; edit or discard what cannot be sent; dovetail outbox retry has them tried at once")
		says(t, look(ailing{stats: store.Stats{Held: 2}, browsing: away}), "outbox: held", broken, "the server is away", storeRemedy)
		all = look(ailing{})
		says(t, all, "store: clock", fine, "is this machine's", "")
		says(t, all, "outbox", fine, "backlog 0, held 0, for later 0", "")
	})
}

// A connection that does not close has work of its own that did not end.
func TestDoctor_says_what_does_not_close(t *testing.T) {
	p := newPatient(t)
	p.fails["close"] = driver.ErrRetryable
	says(t, examine(t, func(ctx context.Context, d *doctor) { d.closeBroker(ctx, p) }), "broker", warning, "close: ", remedyOf(driver.Retryable))
	says(t, examine(t, func(_ context.Context, d *doctor) { d.closeStore(ailing{err: errors.New("the server is away")}) }), "store", broken, "close: the server is away", storeRemedy)
	if all := examine(t, func(_ context.Context, d *doctor) { d.closeStore(ailing{}) }); len(all) > 0 {
		t.Errorf("a store that closes: %+v", all)
	}
}

// The exit code says whether a check failed; remedies stand below what they are for.
func TestDoctor_tells_remedies_and_whether_a_check_failed(t *testing.T) {
	for state, failed := range map[string]bool{fine: false, warning: false, skipped: false, broken: true} {
		var out bytes.Buffer
		d := &doctor{a: newApp(nil, &out, &out)}
		d.say("broker: send", state, "what", "how")
		if err := d.tell(); errors.Is(err, errReported) != failed {
			t.Errorf("%s: %v", state, err)
		}
		if want := fmt.Sprintf("%-7s  broker: send: what\n         → how\n", state); out.String() != want {
			t.Errorf("it prints %q, want %q", out.String(), want)
		}
	}
}
