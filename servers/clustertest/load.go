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
	"github.com/dovetail-go/dovetail/store/memstore"
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

// load is the services that work over the cluster: two that write, three that
// handle behind the inbox, two that answer and two that ask. All share a database
// in memory, which nothing breaks.
type load struct {
	h      Harness
	db     *memstore.Store
	record *record
	noted  dovetail.Event[note]
	double dovetail.Call[question, question]

	cancel  context.CancelFunc
	running sync.WaitGroup
	working sync.WaitGroup
	done    chan struct{} // ends those who write and ask
	paused  atomic.Bool

	mu     sync.Mutex
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
func start(ctx context.Context, h Harness) (*load, error) {
	run := dovetail.NewID()[28:]
	l := &load{h: h, db: memstore.New(), record: newRecord(), done: make(chan struct{}),
		noted:  dovetail.NewEvent[note]("cluster" + run + ".noted").Keyed(func(n note) string { return n.Key }),
		double: dovetail.NewCall[question, question]("cluster" + run + ".double")}
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l.cancel = cancel
	name := func(role string) string { return "cluster" + run + "-" + role }
	var all []*dovetail.Service
	var box *outbox.Box[*memstore.Tx]
	var askers []*dovetail.Service
	for i, role := range []string{"mail", "mail", "mail", "maths", "maths", "books", "books", "desk", "desk"} {
		svc, err := dovetail.Open(ctx, name(role), h.URL, dovetail.Options{Instance: fmt.Sprint(role, i), Logger: slog.New(l.record)})
		if err != nil {
			return nil, errors.Join(fmt.Errorf("open %s: %w", role, err), l.stop())
		}
		all = append(all, svc)
		switch role {
		case "mail":
			var opts []dovetail.SubscribeOption
			if h.Ordered {
				opts = append(opts, dovetail.Ordered())
			}
			l.noted.Subscribe(svc, inbox.Once(outbox.New(svc, l.db, outbox.Options{NoRelay: true}), l.handle), opts...)
		case "maths":
			l.double.Handle(svc, func(_ context.Context, q question) (question, error) { return question{2 * q.N}, nil })
		case "books":
			svc.Sends(l.noted)
			box = outbox.New(svc, l.db)
		case "desk":
			svc.Sends(l.double)
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

// handle writes down that a note was handled.
func (l *load) handle(_ context.Context, tx *memstore.Tx, _ dovetail.Sender, n note) error {
	effect(tx, n)
	l.record.handled(n)
	return nil
}

// write commits notes until the end.
func (l *load) write(box *outbox.Box[*memstore.Tx]) {
	tick := time.NewTicker(writeGap)
	defer tick.Stop()
	for i := 0; ; {
		select {
		case <-l.done:
			return
		case <-tick.C:
		}
		if l.paused.Load() {
			continue
		}
		n := note{fmt.Sprint("k", i%keys), i / keys}
		err := box.Do(context.Background(), func(ctx context.Context, _ *memstore.Tx, out dovetail.Sender) error {
			return l.noted.Publish(ctx, out, n)
		})
		if err != nil {
			l.record.problem(fmt.Sprintf("commit %s: %v", n.id(), err))
			return
		}
		l.record.committed(n)
		i++
	}
}

// ask makes requests until the end, each for itself.
func (l *load) ask(svc *dovetail.Service) {
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
func (l *load) pause(yes bool) { l.paused.Store(yes) }

func (l *load) ended() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.failed)
}

func (l *load) ends() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return errors.Join(l.failed...)
}

// stop ends the services.
func (l *load) stop() error {
	defer l.cancel()
	close(l.done)
	l.working.Wait()
	l.mu.Lock()
	l.over = true
	l.mu.Unlock()
	l.cancel()
	l.running.Wait()
	return nil
}
