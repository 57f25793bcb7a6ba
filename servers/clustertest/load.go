package clustertest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/dovetail-go/dovetail/store"
)

// A note is what is published: the nth of its key.
type note struct {
	Key string `json:"key"`
	N   int    `json:"n"`
}

func (n note) id() string { return fmt.Sprintf("%s/%d", n.Key, n.N) }

type question struct {
	N int `json:"n"`
}

// load is the services that work over the cluster: one that writes and one more
// that may publish what it wrote, three that handle and two that answer behind the
// inbox, and two that ask.
type load[Tx any] struct {
	h      Harness
	db     Database[Tx]
	record *record
	noted  dovetail.Event[note]
	double dovetail.Call[question, question]

	cancel  context.CancelFunc
	running sync.WaitGroup
	working sync.WaitGroup
	done    chan struct{} // ends those who write and ask
	paused  atomic.Bool

	mu     sync.Mutex
	close  []func() error
	failed []error // of services that ended
	over   bool
}

const (
	keys     = 30
	writeGap = 25 * time.Millisecond
	askGap   = 150 * time.Millisecond
	askTime  = 5 * time.Second

	startTime = time.Minute // of one service
)

// start has the services run, and returns when all are ready and work.
func start[Tx any](ctx context.Context, h Harness, db Database[Tx]) (*load[Tx], error) {
	run := dovetail.NewID()[28:]
	l := &load[Tx]{h: h, db: db, record: newRecord(), done: make(chan struct{}),
		noted:  dovetail.NewEvent[note]("cluster" + run + ".noted").Keyed(func(n note) string { return n.Key }),
		double: dovetail.NewCall[question, question]("cluster" + run + ".double")}
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.cancel = cancel
	name := func(role string) string { return "cluster" + run + "-" + role }
	var all []*dovetail.Service
	var box *outbox.Box[Tx]
	var askers []*dovetail.Service
	for i, role := range []string{"mail", "mail", "mail", "maths", "maths", "books", "books", "desk", "desk"} {
		svc, err := dovetail.Open(ctx, name(role), h.URL, dovetail.Options{Instance: fmt.Sprint(role, i), Logger: slog.New(l.record)})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open %s: %w", role, err), l.stop())
		}
		all = append(all, svc)
		var db store.DB[Tx]
		if role != "desk" {
			if db, err = l.open(ctx); err != nil {
				return nil, errors.Join(fmt.Errorf("open the database of %s: %w", role, err), l.stop())
			}
		}
		switch role {
		case "mail":
			var opts []dovetail.SubscribeOption
			if h.Ordered {
				opts = append(opts, dovetail.Ordered())
			}
			once := inbox.Once(outbox.New(svc, db, outbox.Options{NoRelay: true}), l.handle)
			l.noted.Subscribe(svc, func(ctx context.Context, n note) error {
				err := h.hold.wait(ctx)
				if err == nil {
					ctx, cancel := h.hold.bound(ctx)
					defer cancel()
					err = once(ctx, n)
				}
				if err == nil {
					l.record.handled(n)
				}
				return err
			}, opts...)
		case "maths":
			l.double.Handle(svc, inbox.Answer(outbox.New(svc, db, outbox.Options{NoRelay: true}), l.answer))
		case "books":
			svc.Declare(l.noted)
			box = outbox.New(svc, db)
		case "desk":
			svc.Declare(l.double)
			askers = append(askers, svc)
		}
		l.running.Go(func() {
			err := svc.Run(serving)
			l.mu.Lock()
			defer l.mu.Unlock()
			if !l.over {
				l.failed = append(l.failed, fmt.Errorf("%s: %w", svc.Name(), err))
			}
		})
		if role == "mail" { // its groups are there before the first message
			if err := ready(ctx, svc); err != nil {
				return nil, errors.Join(err, l.stop())
			}
		}
	}
	for _, svc := range all {
		if err := ready(ctx, svc); err != nil {
			return nil, errors.Join(err, l.stop())
		}
	}
	l.working.Go(func() { l.write(box) })
	for _, svc := range askers {
		l.working.Go(func() { l.ask(svc) })
	}
	return l, rest(ctx, 2*time.Second)
}

func ready(ctx context.Context, svc *dovetail.Service) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	select {
	case <-svc.Ready():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s is not ready: %w", svc.Name(), context.Cause(ctx))
	}
}

// open opens the database for one service.
func (l *load[Tx]) open(ctx context.Context) (store.DB[Tx], error) {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	db, close, err := l.db.Open(ctx)
	if err == nil {
		l.close = append(l.close, close)
	}
	return db, err
}

// handle takes note of a note.
func (l *load[Tx]) handle(ctx context.Context, tx Tx, _ dovetail.Sender, n note) error {
	return effect(ctx, l.db, tx, n)
}

func (l *load[Tx]) answer(_ context.Context, _ Tx, _ dovetail.Sender, q question) (question, error) {
	return question{2 * q.N}, nil
}

// write commits notes until the end. One whose transaction failed is tried again
// until it is known to be committed.
func (l *load[Tx]) write(box *outbox.Box[Tx]) {
	tick := time.NewTicker(writeGap)
	defer tick.Stop()
	for i, again := 0, false; ; {
		select {
		case <-l.done:
			return
		case <-tick.C:
		}
		if l.paused.Load() && !again {
			continue
		}
		n := note{fmt.Sprint("k", i%keys), i / keys}
		if err := l.commit(box, n); err != nil {
			l.record.failed(err)
			again = true
			continue
		}
		l.record.committed(n)
		i++
		again = false
	}
}

// commit writes and publishes a note in one transaction. If an earlier one of the
// same note was committed after all, it does nothing.
func (l *load[Tx]) commit(box *outbox.Box[Tx], n note) error {
	ctx, cancel := l.h.hold.bound(context.Background())
	defer cancel()
	return box.Do(ctx, func(ctx context.Context, tx Tx, out dovetail.Sender) error {
		name := writtenKey + n.id()
		if there, err := l.db.Get(ctx, tx, name); err != nil || there > 0 {
			return err
		}
		if err := l.db.Put(ctx, tx, name, 1); err != nil {
			return err
		}
		return l.noted.Publish(ctx, out, n)
	})
}

// ask makes requests until the end, each for itself.
func (l *load[Tx]) ask(svc *dovetail.Service) {
	tick := time.NewTicker(askGap)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-l.done:
			return
		case <-tick.C:
		}
		l.working.Go(func() {
			answered := l.record.ask()
			got, err := l.double.Request(context.Background(), svc, question{i}, dovetail.Within(askTime))
			if err == nil && got.N != 2*i {
				err = fmt.Errorf("twice %d is %d", i, got.N)
			}
			answered(err)
		})
	}
}

// pause has the writer stop for a while.
func (l *load[Tx]) pause(yes bool) { l.paused.Store(yes) }

func (l *load[Tx]) ended() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.failed)
}

func (l *load[Tx]) ends() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.failed...)
}

// stop ends the services.
func (l *load[Tx]) stop() error {
	defer l.cancel()
	close(l.done)
	l.working.Wait()
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.cancel()
	l.running.Wait()
	var err error
	for _, close := range l.close {
		err = errors.Join(err, close())
	}
	return err
}
