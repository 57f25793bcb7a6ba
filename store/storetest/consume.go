package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/internal/crash"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/transport/filebus"
)

// What the service of the test hears, is asked and says. N counts the messages
// of a key.
type counted struct {
	Key string `json:"key"`
	N   int64  `json:"n"`
}

var (
	arrived  = dovetail.NewEvent[counted]("shop.arrived").Keyed(func(c counted) string { return c.Key })
	spoilt   = dovetail.NewEvent[counted]("shop.spoilt")
	reserve  = dovetail.NewCall[counted, counted]("catalog.reserve")
	received = dovetail.NewEvent[counted]("catalog.received").Keyed(func(c counted) string { return c.Key })
)

const answers = "reply.shop.test"

// consume kills a service with an inbox at every named point of inbox and run
// loop, and in the end compares what was sent to it with its effects.
func (s suite[Tx]) consume(e *env[Tx]) {
	e.killed()
	if j := childJob(); j != nil {
		e.dieConsuming(*j)
		return
	}
	e.close()
	bus, err := filebus.Open(e.ctx, filebus.Options{Dir: e.bus(), Sync: filebus.SyncOS, Partitions: 4})
	e.must(err)
	defer bus.Close(context.Background())
	e.must(bus.Provision(e.ctx, nil, []driver.Subscription{ // what comes there stays, and is read by the test
		{Channel: driver.Channel{Name: answers}, Group: "test"},
		{Channel: driver.Channel{Name: "catalog.received", Kind: driver.PublishSubscribe}, Group: "test"},
	}))
	e.open()
	e.serve(func() bool { return true }) // provisions the rest
	e.close()
	rounds := 0
	for _, point := range s.points(crash.Inbox, crash.Consumer) {
		e.must(bus.Send(e.ctx, incoming(rounds)))
		e.child(job{Dir: e.dir, Point: point, Times: 1 + 3*(rounds%2)})
		rounds++
	}
	e.open()
	e.serve(func() bool { return e.settled(bus) })
	e.compareEffects(bus, rounds)
}

func (e *env[Tx]) bus() string { return filepath.Join(e.dir, "bus") }

// each is how many messages of each kind are sent in a round.
const each = 12

// keyOf is the key of the i-th message, and which of its key it is.
func keyOf(i int) (key string, n int64) { return fmt.Sprintf("key-%d", i%3), int64(i/3 + 1) }

// incoming are the messages of a round.
func incoming(round int) (ms []*driver.Message) {
	add := func(id, channel, key string, n int64) *driver.Message {
		body, _ := json.Marshal(counted{key, n}) // it is our own
		ms = append(ms, &driver.Message{
			ID: id, Channel: channel, Type: channel + ".v1", Source: "shop", Key: key, Time: time.Now().UTC(),
			ContentType: "application/json", Body: body,
		})
		return ms[len(ms)-1]
	}
	for i := round * each; i < (round+1)*each; i++ {
		key, n := keyOf(i)
		add(fmt.Sprintf("arrived-%d", i), "shop.arrived", key, n)
		add(fmt.Sprintf("reserve-%d", i), "catalog.reserve", "", int64(i)).ReplyTo = answers
		if i%2 == 0 {
			add(fmt.Sprintf("spoilt-%d", i), "shop.spoilt", "", int64(i))
		}
	}
	return ms
}

// start opens the service and returns what runs it.
func (e *env[Tx]) start(unanswer bool) (svc *dovetail.Service) {
	svc, err := dovetail.Open(e.ctx, "catalog", "file:"+e.bus()+"?sync=os", dovetail.Options{
		Logger: slog.New(slog.DiscardHandler), Concurrency: 4, Window: 16,
		Retry: dovetail.RetryPolicy{Attempts: 20, First: time.Millisecond, Max: 5 * time.Millisecond},
	})
	e.must(err)
	db := e.DB
	if unanswer {
		db = unanswered(db)
	}
	box := outbox.New(svc, db, outbox.Options{Lease: 100 * time.Millisecond, Poll: 5 * time.Millisecond, CursorInterval: 2 * time.Millisecond})
	svc.Declare(received)
	arrived.Subscribe(svc, inbox.Once(box, func(ctx context.Context, tx Tx, out dovetail.Sender, c counted) error {
		n, err := e.Count(ctx, tx, c.Key)
		if err != nil {
			return err
		}
		if n != c.N {
			e.note(fmt.Sprintf("message %d of %s was effect %d", c.N, c.Key, n))
		}
		if _, err := e.Count(ctx, tx, dovetail.DeliveryFromContext(ctx).Message.ID); err != nil {
			return err
		}
		return received.Publish(ctx, out, c)
	}))
	arrived.SubscribeBatch(svc, inbox.Batch(box, func(ctx context.Context, tx Tx, _ dovetail.Sender, _ counted) error {
		_, err := e.Count(ctx, tx, "batch-"+dovetail.DeliveryFromContext(ctx).Message.ID)
		return err
	}), dovetail.Group("batch"), dovetail.BatchSize(5))
	spoilt.Subscribe(svc, inbox.Once(box, func(ctx context.Context, tx Tx, out dovetail.Sender, _ counted) error {
		if _, err := e.Count(ctx, tx, dovetail.DeliveryFromContext(ctx).Message.ID); err != nil {
			return err
		}
		return dovetail.Permanent(errors.New("spoilt"))
	}))
	reserve.Handle(svc, inbox.Answer(box, func(ctx context.Context, tx Tx, _ dovetail.Sender, c counted) (counted, error) {
		id := dovetail.DeliveryFromContext(ctx).Message.ID
		if _, err := e.Count(ctx, tx, id); err != nil {
			return c, err
		}
		n, err := e.Count(ctx, tx, "reserved") // the answer to a second effect would be another
		return counted{id, n}, err
	}))
	return svc
}

// note writes down what went wrong in a process that may be killed.
func (e *env[Tx]) note(text string) {
	f, err := os.OpenFile(filepath.Join(e.dir, "wrong"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	e.must(err)
	defer f.Close()
	_, err = f.WriteString(text + "\n")
	e.must(err)
}

// serve runs the service until it has nothing to do any more.
func (e *env[Tx]) serve(over func() bool) {
	svc := e.start(false)
	ctx, cancel := context.WithCancel(e.ctx)
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(ctx) }()
	select {
	case <-svc.Ready():
	case err := <-ended:
		e.Fatal(err)
	}
	for !over() {
		select {
		case err := <-ended:
			e.Fatal(err)
		case <-e.ctx.Done():
			e.Fatal(e.ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
	cancel()
	e.must(<-ended)
}

// settled reports whether nothing is left to handle or to publish.
func (e *env[Tx]) settled(bus *filebus.Conn) bool {
	st, err := e.DB.Stats(e.ctx, 0)
	e.must(err)
	all, err := bus.Channels(e.ctx)
	e.must(err)
	left := st.Backlog + st.Later + st.Held
	for _, ch := range all {
		for _, g := range ch.Groups {
			if strings.HasPrefix(g.Name, "catalog") {
				left += g.Backlog + g.Pending
			}
		}
	}
	return left == 0
}

// dieConsuming serves until the process dies at the job's point.
func (e *env[Tx]) dieConsuming(j job) {
	crash.KillAt(j.Point, j.Times)
	svc := e.start(true)
	ctx, cancel := context.WithTimeout(e.ctx, time.Minute)
	defer cancel()
	if err := svc.Run(ctx); err != nil && ctx.Err() == nil {
		e.Error(err)
	}
	e.Errorf("point %s was not passed %d times", j.Point, j.Times)
}

// compareEffects checks that every message had one effect, in the order of its
// key, and what followed from it.
func (e *env[Tx]) compareEffects(bus *filebus.Conn, rounds int) {
	if wrong, err := os.ReadFile(filepath.Join(e.dir, "wrong")); err == nil {
		e.Errorf("effects out of order or double:\n%s", wrong)
	}
	effects, err := e.Counts(e.ctx)
	e.must(err)
	events, replies, dead := map[string]map[string]bool{}, map[string]map[string]bool{}, map[string]map[string]bool{}
	put := func(m map[string]map[string]bool, key, value string) {
		if m[key] == nil {
			m[key] = map[string]bool{}
		}
		m[key][value] = true
	}
	for _, s := range e.browse(bus, "catalog.received") {
		put(events, string(s.Body), s.ID)
	}
	for _, s := range e.browse(bus, answers) {
		put(replies, s.CausationID, string(s.Body))
	}
	for _, s := range e.browse(bus, dovetail.DeadLetterChannel("catalog")) {
		d, err := dovetail.ParseDeadLetter(s)
		e.must(err)
		put(dead, d.Message.ID, s.ID)
	}
	one := func(what, of string, seen map[string]map[string]bool) {
		e.Helper()
		if n := len(seen[of]); n != 1 {
			e.Errorf("%s has %d %s, want 1: %v", of, n, what, seen[of])
		}
	}
	total := rounds * each
	for i := range total {
		key, n := keyOf(i)
		body, _ := json.Marshal(counted{key, n})
		one("events", string(body), events)
		one("answers", fmt.Sprintf("reserve-%d", i), replies)
		for _, id := range []string{fmt.Sprintf("arrived-%d", i), fmt.Sprintf("batch-arrived-%d", i), fmt.Sprintf("reserve-%d", i)} {
			if effects[id] != 1 {
				e.Errorf("%s had %d effects", id, effects[id])
			}
		}
		if id := fmt.Sprintf("spoilt-%d", i); i%2 == 0 {
			one("dead letters", id, dead)
			if effects[id] != 0 {
				e.Errorf("%s had an effect", id)
			}
		}
	}
	if len(events) != total || len(replies) != total || len(dead) != total/2 || effects["reserved"] != int64(total) {
		e.Errorf("of %d: %d events, %d answered, %d dead, %d reserved", total, len(events), len(replies), len(dead), effects["reserved"])
	}
	e.Logf("%d messages of each kind, each with one effect", total)
}

// browse returns all messages of a channel.
func (e *env[Tx]) browse(bus *filebus.Conn, channel string) (all []*driver.Message) {
	for after := ""; ; {
		page, err := bus.Browse(e.ctx, channel, after, 1000)
		e.must(err)
		if len(page) == 0 {
			return all
		}
		for _, s := range page {
			all, after = append(all, s.Message), s.Position
		}
	}
}
