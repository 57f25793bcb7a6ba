package keytest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// Of CheckRequeue: the instances of its service, the keys of its messages, how
// many of each key are slow, and how long a handler then takes.
const (
	instances = 3
	keys      = 12
	slowOnes  = 3
	slow      = 300 * time.Millisecond
)

// A watch sees whether two handlers of one key run at once.
type watch struct {
	mu      sync.Mutex
	running map[string]int
	handled map[item]int
	overlap map[string]bool // keys of which two ran at once
	changed chan struct{}   // closed and replaced with each begin and end
}

func newWatch() *watch {
	return &watch{running: map[string]int{}, handled: map[item]int{}, overlap: map[string]bool{}, changed: make(chan struct{})}
}

func (w *watch) signal() {
	close(w.changed)
	w.changed = make(chan struct{})
}

func (w *watch) begin(i item) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.running[i.Key]++; w.running[i.Key] > 1 {
		w.overlap[i.Key] = true
	}
	w.signal()
}

func (w *watch) end(i item, handled bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running[i.Key]--
	if handled {
		w.handled[i]++
	}
	w.signal()
}

// until waits until what holds.
func (w *watch) until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	enough := time.After(patience)
	for {
		w.mu.Lock()
		ok, changed := holds(), w.changed
		w.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-enough:
			w.mu.Lock()
			defer w.mu.Unlock()
			t.Fatalf("%s: not within %v; handled: %v", what, patience, w.handled)
		}
	}
}

// CheckRequeue runs some instances of a service that handles messages in the
// order of their keys. While their owners handle others of the same keys, dead
// letters are sent to be handled again. It wants no two messages of a key to be
// handled at once, and each of them once.
func CheckRequeue(t *testing.T, open func() driver.Conn, options dovetail.Options, partitions int) {
	t.Helper()
	options.Logger = slog.New(slog.DiscardHandler)
	options.Concurrency, options.RevokeTimeout = keys, patience
	name := fmt.Sprintf("requeue-%d", time.Now().UnixNano())
	work := dovetail.NewCommand[item](name).On(dovetail.NewChannel(name).Partitions(partitions)).Keyed(func(i item) string { return i.Key })
	w := newWatch()
	repaired := make(chan struct{}) // closed when the first messages are to succeed
	requeued := make(chan struct{}) // closed when their letters are sent; until then the first of the slow ones run
	var services []*dovetail.Service
	for n := range instances {
		o := options
		o.Instance = fmt.Sprint("i", n)
		svc := dovetail.New(name, open(), o)
		work.Handle(svc, func(_ context.Context, i item) error {
			if i.N == 0 {
				select {
				case <-repaired:
				default:
					return dovetail.Permanent(errors.New("not yet"))
				}
			}
			w.begin(i)
			if i.N > 0 {
				<-requeued
			}
			<-time.After(slow)
			w.end(i, true)
			return nil
		}, dovetail.Ordered())
		svc.Declare(work)
		services = append(services, svc)
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- svc.Run(ctx) }()
		defer func() {
			stop()
			if err := <-ended; err != nil {
				t.Errorf("run: %v", err)
			}
		}()
	}
	for _, svc := range services {
		select {
		case <-svc.Ready():
		case <-time.After(patience):
			t.Fatal("a service is not ready")
		}
	}
	send := func(n int) {
		for k := range keys {
			if err := work.Send(t.Context(), services[0], item{fmt.Sprint("key ", k), n}); err != nil {
				t.Fatal(err)
			}
		}
	}
	send(0)
	letters := deadLetters(t, services[0])
	for n := range slowOnes {
		send(n + 1)
	}
	w.until(t, "every key to be handled", func() bool {
		n := 0
		for _, r := range w.running {
			n += r
		}
		return n == keys
	})
	close(repaired)
	began := time.Now()
	for _, d := range letters {
		if err := services[0].Conn().Send(t.Context(), []*driver.Message{d.Requeue()}); err != nil {
			t.Fatal(err)
		}
	}
	close(requeued)
	w.until(t, "everything to be handled", func() bool { return len(w.handled) == keys*(slowOnes+1) })
	t.Logf("%d letters, and %d other messages, were handled in %v", keys, keys*slowOnes, time.Since(began).Round(time.Millisecond))
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.overlap) > 0 {
		t.Errorf("of %d keys of %d, two messages were handled at once", len(w.overlap), keys)
	}
	for i, n := range w.handled {
		if n != 1 {
			t.Errorf("message %d of %s was handled %d times", i.N, i.Key, n)
		}
	}
}

// deadLetters waits until there is one for each key, and takes them.
func deadLetters(t *testing.T, svc *dovetail.Service) (letters []dovetail.DeadLetter) {
	t.Helper()
	channel := dovetail.DeadLetterChannel(svc.Name())
	b := svc.Conn().(driver.Browser)
	for began := time.Now(); ; <-time.After(20 * time.Millisecond) {
		kept, err := b.Browse(t.Context(), channel, "", 2*keys)
		if err != nil {
			t.Fatal(err)
		}
		if len(kept) < keys {
			if time.Since(began) > patience {
				t.Fatalf("%d dead letters, want %d", len(kept), keys)
			}
			continue
		}
		var at []string
		for _, s := range kept {
			d, err := dovetail.ParseDeadLetter(s.Message)
			if err != nil {
				t.Fatal(err)
			}
			letters, at = append(letters, d), append(at, s.Position)
		}
		if err := b.Remove(t.Context(), channel, at); err != nil {
			t.Fatal(err)
		}
		return letters
	}
}
