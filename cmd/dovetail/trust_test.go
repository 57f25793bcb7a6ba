package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
)

// The lines of docs/security.md that say what somebody who may publish to one
// channel cannot do, on every transport.

func TestTrust_in_memory(t *testing.T) {
	trust(t, fmt.Sprintf("mem:trust%08x", rand.Uint32()))
}

func TestTrust_on_a_directory(t *testing.T) {
	trust(t, "file:"+filepath.Join(t.TempDir(), "bus"))
}

func TestTrust_on_the_embedded_broker(t *testing.T) {
	trust(t, "embedded:"+t.TempDir())
}

func TestTrust_on_NATS(t *testing.T) {
	trust(t, servers.Shared(t, servers.NATS).URL()+"?partitions=2")
}

func TestTrust_on_RabbitMQ(t *testing.T) {
	trust(t, servers.Shared(t, servers.RabbitMQ).URL())
}

func TestTrust_on_Kafka(t *testing.T) {
	trust(t, servers.Shared(t, servers.Kafka).URL()+"?partitions=2")
}

// A trial is the services bank, mail and shop, and a stranger who may publish to
// the channels of their contracts and to their reply channels.
type trial struct {
	*testing.T
	url              string
	bank, mail, shop *dovetail.Service
	stranger         driver.Conn
	greet            dovetail.Command[welcome]
	heard            dovetail.Event[welcome]
	quote            dovetail.Call[welcome, welcome]
	transfers        atomic.Int64
	greeted, heardN  atomic.Int64
	slow             chan struct{} // an answer waits for it
}

func trust(t *testing.T, url string) {
	t.Parallel()
	tr := &trial{T: t, url: url, slow: make(chan struct{})}
	name := func(s string) string { return fmt.Sprintf("%s%08x", s, rand.Uint32()) }
	mail, bank := name("mail"), name("bank")
	tr.greet = dovetail.NewCommand[welcome](mail + ".greet")
	tr.heard = dovetail.NewEvent[welcome](mail + ".heard")
	tr.quote = dovetail.NewCall[welcome, welcome](bank + ".quote")
	transfer := dovetail.NewCommand[welcome](bank + ".transfer")
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	open := func(name string) *dovetail.Service {
		svc, err := dovetail.Open(t.Context(), name, url, dovetail.Options{Instance: "one", Logger: slog.New(slog.DiscardHandler),
			Retry: dovetail.RetryPolicy{Attempts: 1}})
		if err != nil {
			stop()
			t.Fatal(err)
		}
		return svc
	}
	tr.mail, tr.bank, tr.shop = open(mail), open(bank), open(name("shop"))
	tr.greet.Handle(tr.mail, func(_ context.Context, w welcome) error {
		if w.Customer == "bad" {
			return errors.New("no such customer")
		}
		tr.greeted.Add(1)
		return nil
	})
	tr.heard.Subscribe(tr.mail, func(context.Context, welcome) error { tr.heardN.Add(1); return nil })
	transfer.Handle(tr.bank, func(context.Context, welcome) error { tr.transfers.Add(1); return nil })
	tr.quote.Handle(tr.bank, func(_ context.Context, w welcome) (welcome, error) {
		if w.Customer == "slow" {
			<-tr.slow
		}
		return welcome{Customer: "quoted " + w.Customer}, nil
	})
	tr.shop.Declare(tr.greet, tr.heard, tr.quote)
	ended := make(chan error, 3)
	for _, svc := range []*dovetail.Service{tr.mail, tr.bank, tr.shop} {
		go func() { ended <- svc.Run(ctx) }()
	}
	t.Cleanup(func() {
		stop()
		for range 3 {
			if err := <-ended; err != nil {
				t.Errorf("a stranger ended a service: %v", err)
			}
		}
	})
	for _, svc := range []*dovetail.Service{tr.mail, tr.bank, tr.shop} {
		select {
		case <-svc.Ready():
		case <-time.After(time.Minute):
			t.Fatal("not ready within a minute")
		}
	}
	var err error
	if tr.stranger, err = driver.Open(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tr.stranger.Close(context.Background()) })
	for _, line := range []struct {
		name string
		run  func(*trial)
	}{
		{"headers that only Dovetail writes are not read", trustHeaders},
		{"answers go to reply channels only", trustReplyTo},
		{"events and commands are not answered", trustUnasked},
		{"a reply without the request's token is not taken", trustReply},
		{"an id that a stranger used is not taken from its owner", trustID},
		{"what cannot be read stops nobody", trustUnreadable},
	} {
		t.Run(line.name, func(t *testing.T) {
			tr.T = t
			line.run(tr)
		})
	}
	tr.T = t
	if n := tr.transfers.Load(); n != 0 {
		t.Errorf("the bank's transfer ran %d times: nobody has asked for it", n)
	}
}

// publish sends what the stranger wrote.
func (tr *trial) publish(ms ...*driver.Message) {
	tr.Helper()
	for _, m := range ms {
		if m.Time.IsZero() {
			m.Time = time.Now()
		}
		if m.Source == "" {
			m.Source = "stranger"
		}
	}
	ctx, cancel := context.WithTimeout(tr.Context(), 20*time.Second)
	defer cancel()
	if err := tr.stranger.Send(ctx, ms); err != nil {
		tr.Fatal(err)
	}
}

// until waits for something, and fails when it does not come.
func (tr *trial) until(what string, ok func() bool) {
	tr.Helper()
	deadline := time.After(30 * time.Second)
	for !ok() {
		select {
		case <-time.After(10 * time.Millisecond):
		case <-deadline:
			tr.Fatalf("waited 30 s for %s", what)
		}
	}
}

// at is what a channel of a service's own holds.
func (tr *trial) at(channel string) []driver.StoredMessage {
	tr.Helper()
	all, err := tr.stranger.(driver.Browser).Browse(tr.Context(), channel, "", 1000)
	if err != nil && tr.stranger.Classify(err) != driver.NotFound {
		tr.Fatal(err)
	}
	return all
}

// works has each service handle something that came behind what the stranger sent.
func (tr *trial) works() {
	tr.Helper()
	greeted, heard := tr.greeted.Load(), tr.heardN.Load()
	if err := tr.greet.Send(tr.Context(), tr.shop, welcome{"ana"}); err != nil {
		tr.Fatal(err)
	}
	if err := tr.heard.Publish(tr.Context(), tr.shop, welcome{"ana"}); err != nil {
		tr.Fatal(err)
	}
	if got, err := tr.quote.Request(tr.Context(), tr.shop, welcome{"ana"}, dovetail.Within(20*time.Second)); err != nil || got.Customer != "quoted ana" {
		tr.Fatalf("%+v, %v", got, err)
	}
	tr.until("what was sent after the stranger", func() bool { return tr.greeted.Load() > greeted && tr.heardN.Load() > heard })
}

func trustHeaders(tr *trial) {
	bank, transfer := tr.bank.Name(), tr.bank.Name()+".transfer"
	forged := driver.Headers{{Name: "dovetail-dead-service", Value: bank}, {Name: "Dovetail-Dead-Group", Value: bank},
		{Name: "dovetail-dead-handler", Value: transfer + ".v1"}, {Name: "dovetail-dead-error", Value: "lies"}, {Name: "dovetail-dead-stack", Value: "lies"},
		{Name: "DOVETAIL-ORIGINAL-CHANNEL", Value: transfer}, {Name: "dovetail-original-id", Value: "1"}, {Name: "dovetail-original-source", Value: bank},
		{Name: "dovetail-dead-requeues", Value: "7"}, {Name: "dovetail-dead-cause", Value: "unhandled"}, {Name: "dovetail-dead-cut", Value: "body"}}
	dead := dovetail.DeadLetterChannel(tr.mail.Name())
	tr.publish(&driver.Message{Channel: tr.greet.Spec().Channel.Name, ID: "forged", Type: tr.greet.Spec().Type(), ContentType: "application/json",
		Body: []byte(`{"customer":"bad"}`), Headers: forged})
	tr.until("the dead letter", func() bool { return len(tr.at(dead)) > 0 })
	l, err := dovetail.ParseDeadLetter(tr.at(dead)[0].Message)
	if err != nil || l.Service != tr.mail.Name() || l.Handler != tr.greet.Spec().Type() || l.Error != "no such customer" || l.Stack != "" || l.Requeues != 0 || l.Message.Channel != tr.greet.Spec().Channel.Name {
		tr.Errorf("%+v of %+v, %v", l, l.Message, err)
	}
	if len(tr.at(dovetail.DeadLetterChannel(bank))) != 0 {
		tr.Error("the bank has a dead letter")
	}
	// An operator has mail's dead letters handled again. One that is on mail's
	// channel and says that it is the bank's is none of mail's.
	foreign := l
	foreign.Service, foreign.Group, foreign.Handler = bank, bank, transfer+".v1"
	m := foreign.Requeue()
	m.Channel, m.ID = dead, "foreign"
	tr.publish(m)
	tr.until("both letters", func() bool { return len(tr.at(dead)) == 2 })
	var items []deadItem
	for _, s := range tr.at(dead) {
		if d, ok := deadOf(dead, s); ok {
			items = append(items, d)
		}
	}
	if len(items) != 1 || items[0].Service != tr.mail.Name() {
		tr.Fatalf("%d letters are shown as mail's, want 1: %+v", len(items), items)
	}
	for _, err := range requeue(tr.Context(), tr.stranger, items) {
		if err != nil {
			tr.Fatal(err)
		}
	}
	tr.until("the letter of the letter", func() bool {
		for _, s := range tr.at(dead) {
			if d, err := dovetail.ParseDeadLetter(s.Message); err == nil && d.Service == tr.mail.Name() && d.Requeues == 1 {
				return true
			}
		}
		return false
	})
	tr.works()
}

func trustReplyTo(tr *trial) {
	victims := []string{dovetail.DeadLetterChannel(tr.mail.Name()), dovetail.RequeueChannel(tr.mail.Name()), tr.greet.Spec().Channel.Name,
		tr.bank.Name() + ".transfer", "reply.", "reply.a b", "reply.*", "reply.>", "reply." + strings.Repeat("x", 300), "$JS.API.STREAM.DELETE.x", "reply.../../x"}
	before := len(tr.at(victims[0]))
	for i, to := range victims {
		tr.publish(&driver.Message{Channel: tr.quote.Spec().Channel.Name, ID: fmt.Sprint("to", i), Type: tr.quote.Spec().Type(), ReplyTo: to, Body: []byte(`{}`)},
			&driver.Message{Channel: tr.quote.Spec().Channel.Name, ID: fmt.Sprint("bad", i), Type: tr.quote.Spec().Type(), ReplyTo: to, Body: []byte(`{`)})
	}
	tr.until("the dead letters of what cannot be read", func() bool { return len(tr.at(dovetail.DeadLetterChannel(tr.bank.Name()))) == len(victims) })
	tr.works()
	if after := len(tr.at(victims[0])); after != before {
		tr.Errorf("%d answers were written among mail's dead letters", after-before)
	}
}

func trustUnasked(tr *trial) {
	late := tr.shop.Stats().LateReplies
	to := dovetail.ReplyPrefix + tr.shop.Name() + "." + tr.shop.Instance()
	for i, body := range []string{`{}`, `{`, `{"customer":"bad"}`} {
		for _, c := range []dovetail.Contract{tr.greet, tr.heard} {
			for _, typ := range []string{c.Spec().Type(), "", "no.such.v1"} {
				tr.publish(&driver.Message{Channel: c.Spec().Channel.Name, ID: fmt.Sprint("unasked", i, typ), Type: typ, ReplyTo: to, Body: []byte(body)})
			}
		}
	}
	tr.works()
	if n := tr.shop.Stats().LateReplies - late; n != 0 {
		tr.Errorf("%d answers came for events and commands", n)
	}
}

func trustReply(tr *trial) {
	late := tr.shop.Stats().LateReplies
	got := make(chan error, 1)
	go func() {
		w, err := tr.quote.Request(tr.Context(), tr.shop, welcome{"slow"}, dovetail.ID("guessed"), dovetail.Within(40*time.Second))
		if err == nil && w.Customer != "quoted slow" {
			err = fmt.Errorf("the stranger's answer was taken: %+v", w)
		}
		got <- err
	}()
	typ := tr.quote.Spec().Type() + ".reply"
	for i := 0; tr.shop.Stats().LateReplies < late+3; i++ {
		for _, headers := range []driver.Headers{nil, {{Name: "dovetail-reply-token", Value: ""}}, {{Name: "dovetail-reply-token", Value: "guessed"}}} {
			tr.publish(&driver.Message{Channel: dovetail.ReplyPrefix + tr.shop.Name() + "." + tr.shop.Instance(), Transient: true, ID: fmt.Sprint("reply", i, len(headers)),
				Source: tr.bank.Name(), Type: typ, CausationID: "guessed", ContentType: "application/json", Headers: headers, Body: []byte(`{"customer":"stolen"}`)})
		}
		select {
		case err := <-got:
			tr.Fatalf("it was answered before the bank did: %v", err)
		case <-time.After(50 * time.Millisecond):
		}
		if i > 400 {
			tr.Fatal("the stranger's replies do not come")
		}
	}
	close(tr.slow)
	if err := <-got; err != nil {
		tr.Error(err)
	}
}

func trustID(tr *trial) {
	tr.publish(&driver.Message{Channel: tr.heard.Spec().Channel.Name, ID: "order-42", Type: "other.v1", Body: []byte(`{}`)},
		&driver.Message{Channel: tr.heard.Spec().Channel.Name, ID: "order-42", Type: tr.heard.Spec().Type(), Body: []byte(`{`)},
		&driver.Message{Channel: tr.heard.Spec().Channel.Name, ID: "order-42", Source: tr.shop.Name(), Type: "other.v1", Body: []byte(`{}`)})
	before := tr.heardN.Load()
	if err := tr.heard.Publish(tr.Context(), tr.shop, welcome{"ana"}, dovetail.ID("order-42")); err != nil {
		tr.Fatal(err)
	}
	tr.until("the message under the id that a stranger used", func() bool { return tr.heardN.Load() > before })
}

func trustUnreadable(tr *trial) {
	long := strings.Repeat("x", 8<<10)
	var many driver.Headers
	for i := range 100 {
		many = append(many, driver.Header{Name: fmt.Sprint("h", i), Value: "v"})
	}
	for i, c := range []dovetail.Contract{tr.greet, tr.heard, tr.quote} {
		m := func(n int) *driver.Message {
			return &driver.Message{Channel: c.Spec().Channel.Name, ID: fmt.Sprint("unreadable", i, n), Type: c.Spec().Type(), ContentType: "application/json", Body: []byte(`{`)}
		}
		ms := []*driver.Message{m(0), m(1), m(2), m(3), m(4), m(5)}
		ms[1].Body = nil
		ms[2].Body = []byte(hostile + "\x00\xff")
		ms[3].Headers = many
		ms[4].Key, ms[4].CorrelationID = hostile, long[:600]
		ms[5].ContentType = "application/cloudevents+json"
		for _, m := range ms {
			tr.publish(m)
		}
	}
	tr.works()
}
