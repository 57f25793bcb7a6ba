package dovetail_test

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// A mistake is a declaration that Run refuses, the words of the error that say
// what to do, and the same declaration when somebody has done that.
type mistake struct {
	says  string
	wrong func(*dovetail.Service)
	right func(*dovetail.Service)
	opts  dovetail.Options // with wrong
	then  dovetail.Options // with right
	caps  func(*driver.Capabilities)
}

var (
	loud      = ranLow // an event with a key
	plainly   = dovetail.NewEvent[item]("catalog.plain")
	handles   = func(context.Context, item) error { return nil }
	answers   = func(_ context.Context, i item) (item, error) { return i, nil }
	allAtOnce = func(context.Context, []item) []error { return nil }
)

var mistakes = map[string]mistake{
	"two handlers of an event": {says: "name one of them with dovetail.Group",
		wrong: func(s *dovetail.Service) { loud.Subscribe(s, handles); loud.Subscribe(s, handles) },
		right: func(s *dovetail.Service) { loud.Subscribe(s, handles); loud.Subscribe(s, handles, dovetail.Group("b")) }},
	"two handlers of a command": {says: "leave one out, or use an event",
		wrong: func(s *dovetail.Service) { welcome.Handle(s, handles); welcome.Handle(s, handles) },
		right: func(s *dovetail.Service) { welcome.Handle(s, handles) }},
	"two of any type": {says: "give AnyType to one of them",
		wrong: func(s *dovetail.Service) {
			loud.Subscribe(s, handles, dovetail.AnyType())
			plainly.On(dovetail.NewChannel("catalog.stock-ran-low")).Subscribe(s, handles, dovetail.AnyType())
		},
		right: func(s *dovetail.Service) {
			loud.Subscribe(s, handles, dovetail.AnyType())
			plainly.On(dovetail.NewChannel("catalog.stock-ran-low")).Subscribe(s, handles)
		}},
	"a group of a command": {says: "leave Group out, or use an event",
		wrong: func(s *dovetail.Service) { welcome.Handle(s, handles, dovetail.Group("b")) },
		right: func(s *dovetail.Service) { welcome.Handle(s, handles); loud.Subscribe(s, handles, dovetail.Group("b")) }},
	"any type of a call": {says: "use an event, a command or a document",
		wrong: func(s *dovetail.Service) { reserve.Handle(s, answers, dovetail.AnyType()) },
		right: func(s *dovetail.Service) { welcome.Handle(s, handles, dovetail.AnyType()) }},
	"broadcast of a command": {says: "use an event",
		wrong: func(s *dovetail.Service) { welcome.Handle(s, handles, dovetail.Broadcast()) },
		right: func(s *dovetail.Service) { loud.Subscribe(s, handles, dovetail.Broadcast()) }},
	"broadcast in order": {says: "leave Ordered out",
		wrong: func(s *dovetail.Service) { loud.Subscribe(s, handles, dovetail.Broadcast(), dovetail.Ordered()) },
		right: func(s *dovetail.Service) { loud.Subscribe(s, handles, dovetail.Broadcast()) }},
	"broadcast over what cannot": {says: "leave Broadcast out, or use another transport for it", caps: func(c *driver.Capabilities) { c.Broadcast = false },
		wrong: func(s *dovetail.Service) { loud.Subscribe(s, handles, dovetail.Broadcast()) },
		right: func(s *dovetail.Service) { loud.Subscribe(s, handles) }},
	"order over what cannot": {says: "leave Ordered out and run one instance", caps: func(c *driver.Capabilities) { c.Order = driver.OrderInstance },
		wrong: func(s *dovetail.Service) { loud.Subscribe(s, handles, dovetail.Ordered()) },
		right: func(s *dovetail.Service) { loud.Subscribe(s, handles) }},
	"order without a key": {says: "declare the contract Keyed, or leave Ordered out",
		wrong: func(s *dovetail.Service) { plainly.Subscribe(s, handles, dovetail.Ordered()) },
		right: func(s *dovetail.Service) {
			plainly.Keyed(func(i item) string { return i.SKU }).Subscribe(s, handles, dovetail.Ordered())
		}},
	"batch middleware of single messages": {says: "wrap it with Use",
		wrong: func(s *dovetail.Service) {
			welcome.Handle(s, handles, dovetail.UseBatch(func(next dovetail.BatchHandler) dovetail.BatchHandler { return next }))
		},
		right: func(s *dovetail.Service) {
			welcome.Handle(s, handles, dovetail.Use(func(next dovetail.Handler) dovetail.Handler { return next }))
		}},
	"batch size of single messages": {says: "register it with SubscribeBatch or HandleBatch",
		wrong: func(s *dovetail.Service) { welcome.Handle(s, handles, dovetail.BatchSize(9)) },
		right: func(s *dovetail.Service) { welcome.HandleBatch(s, allAtOnce, dovetail.BatchSize(9)) }},
	"no concurrency": {says: "want 1 or more, or leave it out",
		wrong: func(s *dovetail.Service) { welcome.Handle(s, handles, dovetail.Concurrency(0)) },
		right: func(s *dovetail.Service) { welcome.Handle(s, handles, dovetail.Concurrency(1)) }},
	"a negative time-out": {says: "want a positive time, or 0 for none",
		wrong: func(s *dovetail.Service) { welcome.Handle(s, handles, dovetail.Timeout(-1)) },
		right: func(s *dovetail.Service) { welcome.Handle(s, handles, dovetail.Timeout(0)) }},
	"no handler": {says: "give a function",
		wrong: func(s *dovetail.Service) { welcome.Handle(s, nil) },
		right: func(s *dovetail.Service) { welcome.Handle(s, handles) }},
	"no contract": {says: "declare it with NewEvent",
		wrong: func(s *dovetail.Service) { dovetail.Event[item]{}.Subscribe(s, handles) },
		right: func(s *dovetail.Service) { dovetail.NewEvent[item]("catalog.new").Subscribe(s, handles) }},
	"sends nothing": {says: "leave it out",
		wrong: func(s *dovetail.Service) { s.Declare(nil) },
		right: func(s *dovetail.Service) { s.Declare() }},
	"two kinds on a channel": {says: "give them channels of their own with On",
		wrong: func(s *dovetail.Service) {
			welcome.On(dovetail.NewChannel("catalog.stock-ran-low")).Handle(s, handles)
			s.Declare(loud)
		},
		right: func(s *dovetail.Service) {
			welcome.On(dovetail.NewChannel("mail.own")).Handle(s, handles)
			s.Declare(loud)
		}},
	"one type on two channels": {says: "give one of them another name or Version",
		wrong: func(s *dovetail.Service) { s.Declare(welcome, welcome.On(dovetail.NewChannel("mail.other"))) },
		right: func(s *dovetail.Service) {
			s.Declare(welcome, welcome.On(dovetail.NewChannel("mail.other")).Version(2))
		}},
	"too many partitions": {says: "want at most 1024",
		wrong: func(s *dovetail.Service) { s.Declare(welcome.On(dovetail.NewChannel("mail.many").Partitions(5000))) },
		right: func(s *dovetail.Service) { s.Declare(welcome.On(dovetail.NewChannel("mail.many").Partitions(1024))) }},
	"no codec": {says: "leave Encoded out for JSON",
		wrong: func(s *dovetail.Service) { s.Declare(welcome.Encoded(nil)) },
		right: func(s *dovetail.Service) { s.Declare(welcome) }},
	"a reserved name": {says: "choose another",
		wrong: func(s *dovetail.Service) { s.Declare(dovetail.NewCommand[item]("dead.letters")) },
		right: func(s *dovetail.Service) { s.Declare(dovetail.NewCommand[item]("mail.letters")) }},
	"a negative option": {says: "Options.Window: -1: want a positive value, or 0 for the default",
		wrong: func(*dovetail.Service) {}, right: func(*dovetail.Service) {}, opts: dovetail.Options{Window: -1}},
	"a negative wait": {says: "want positive times, or 0 for the default",
		wrong: func(*dovetail.Service) {}, right: func(*dovetail.Service) {},
		opts: dovetail.Options{Retry: dovetail.RetryPolicy{First: -1}}},
	"a policy that holds too long": {says: "choose fewer RetryPolicy.Attempts", caps: func(c *driver.Capabilities) { c.AckTimeout = time.Second },
		wrong: func(s *dovetail.Service) { welcome.Handle(s, handles) },
		right: func(s *dovetail.Service) {
			welcome.Handle(s, handles, dovetail.Retry(dovetail.RetryPolicy{Attempts: 1}))
		}},
}

// able is a transport with other capabilities.
type able struct {
	*scripted
	caps func(*driver.Capabilities)
}

func (a able) Capabilities() driver.Capabilities {
	c := a.scripted.Capabilities()
	if a.caps != nil {
		a.caps(&c)
	}
	return c
}

func TestMistakes_are_refused_with_a_remedy_that_is_right(t *testing.T) {
	for name, m := range mistakes {
		t.Run(name, func(t *testing.T) {
			declared := func(opts dovetail.Options, declare func(*dovetail.Service)) *dovetail.Service {
				opts.Logger = quick.Logger
				s := dovetail.New("mail", able{scriptedConn(t), m.caps}, opts)
				declare(s)
				return s
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			if err := declared(m.opts, m.wrong).Run(ctx); err == nil || !strings.Contains(err.Error(), m.says) {
				t.Errorf("error %v, want one that says %q", err, m.says)
			}
			fixed := declared(m.then, m.right)
			ended := make(chan error, 1)
			go func() { ended <- fixed.Run(ctx) }()
			select {
			case <-fixed.Ready():
				cancel()
				if err := <-ended; err != nil {
					t.Errorf("once that was done: %v", err)
				}
			case err := <-ended:
				t.Errorf("once that was done: %v", err)
			}
		})
	}
}

func TestSends_are_refused_with_a_remedy_that_is_right(t *testing.T) {
	big := item{SKU: strings.Repeat("x", 2<<20)}
	for name, m := range map[string]struct {
		says  string
		opts  dovetail.Options
		wrong func(*dovetail.Service) error
		then  dovetail.Options
		right func(*dovetail.Service) error
	}{
		"undeclared": {"add svc.Declare(…) with it before Run", dovetail.Options{},
			func(s *dovetail.Service) error { return plainly.Publish(t.Context(), s, item{}) }, dovetail.Options{},
			func(s *dovetail.Service) error { s.Declare(plainly); return plainly.Publish(t.Context(), s, item{}) }},
		"a large body": {"raise Options.Limits.Body here and where it is handled", dovetail.Options{},
			func(s *dovetail.Service) error { return welcome.Send(t.Context(), s, big) }, dovetail.Options{Limits: dovetail.Limits{Body: 4 << 20}},
			func(s *dovetail.Service) error { return welcome.Send(t.Context(), s, big) }},
		"a header of ours": {"choose another", dovetail.Options{},
			func(s *dovetail.Service) error {
				return welcome.Send(t.Context(), s, item{}, dovetail.Header("dovetail-status", "x"))
			}, dovetail.Options{},
			func(s *dovetail.Service) error {
				return welcome.Send(t.Context(), s, item{}, dovetail.Header("status", "x"))
			}},
		"within a transaction": {"dovetail.Outside(ctx)", dovetail.Options{},
			func(s *dovetail.Service) error {
				return welcome.Send(dovetail.WithinTransaction(t.Context(), func() bool { return true }), s, item{})
			}, dovetail.Options{},
			func(s *dovetail.Service) error {
				return welcome.Send(dovetail.Outside(dovetail.WithinTransaction(t.Context(), func() bool { return true })), s, item{})
			}},
	} {
		t.Run(name, func(t *testing.T) {
			service := func(opts dovetail.Options) *dovetail.Service {
				opts.Logger = quick.Logger
				s := dovetail.New("mail", scriptedConn(t), opts)
				s.Declare(welcome)
				return s
			}
			if err := m.wrong(service(m.opts)); err == nil || !strings.Contains(err.Error(), m.says) {
				t.Errorf("error %v, want one that says %q", err, m.says)
			}
			if err := m.right(service(m.then)); err != nil {
				t.Errorf("once that was done: %v", err)
			}
		})
	}
}

// What is handled has limits too.
func TestMessage_over_a_limit_of_its_handler_names_the_option(t *testing.T) {
	for limit, handled := range map[int]bool{0: false, 4 << 20: true} {
		sender := open(t, "shop", dovetail.Options{Limits: dovetail.Limits{Body: 4 << 20}})
		mail := open(t, "mail", dovetail.Options{Limits: dovetail.Limits{Body: limit}})
		welcome.Handle(mail, handles)
		sender.Declare(welcome)
		stop := start(t, sender, mail)
		if err := welcome.Send(t.Context(), sender, item{SKU: strings.Repeat("x", 2<<20)}); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the message", func() bool { s := mail.Stats(); return s.Handled+s.Dead == 1 })
		if got := mail.Stats().Handled == 1; got != handled {
			t.Errorf("limit %d: handled is %v", limit, got)
		}
		if !handled {
			letters, err := mail.Conn().(driver.Browser).Browse(t.Context(), dovetail.DeadLetterChannel("mail"), "", 1)
			if err != nil || len(letters) != 1 {
				t.Fatal(letters, err)
			}
			d, err := dovetail.ParseDeadLetter(letters[0].Message)
			if err != nil || !strings.Contains(d.Error, "raise Options.Limits.Body") || !bytes.HasPrefix(d.Message.Body, []byte("{")) {
				t.Error(errors.Join(err, errors.New(d.Error)))
			}
		}
		stop()
	}
}
