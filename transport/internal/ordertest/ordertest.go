// Package ordertest checks, for the tests of transports whose channels may have
// partitions with owners or none, what people are told of the order by key, and
// that the remedies are right: it follows each of them.
package ordertest

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// patience bounds every wait.
const patience = time.Minute

var last atomic.Int64

// place is a broker and a channel of it that nobody has used.
type place struct {
	*testing.T
	open    func(t *testing.T, query string) driver.Conn
	channel string
}

func newPlace(t *testing.T, open func(t *testing.T, query string) driver.Conn) *place {
	return &place{t, open, fmt.Sprintf("ordertest-%d-%d", time.Now().UnixNano(), last.Add(1))}
}

// instance is one instance of a service that handles the channel's one contract.
type instance struct {
	query      string // of the URL
	partitions int    // of the contract's channel
	ordered    bool
	unkeyed    bool
	told       func(dovetail.Notice)
}

// run serves until the test ends, or returns what Run returned before it served.
func (p *place) run(i instance) error {
	p.Helper()
	conn := p.open(p.T, i.query)
	svc := dovetail.New("ordertest", conn, dovetail.Options{Logger: slog.New(slog.DiscardHandler), Hooks: dovetail.Hooks{Notice: i.told}})
	c := dovetail.NewCommand[string](p.channel).On(dovetail.NewChannel(p.channel).Partitions(i.partitions))
	if !i.unkeyed {
		c = c.Keyed(func(s string) string { return s })
	}
	var opts []dovetail.SubscribeOption
	if i.ordered {
		opts = append(opts, dovetail.Ordered())
	}
	c.Handle(svc, func(context.Context, string) error { return nil }, opts...)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(ctx) }()
	select {
	case <-svc.Ready():
	case err := <-ended:
		cancel()
		return err
	case <-time.After(patience):
		p.Fatal("the service is not ready")
	}
	p.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			p.Error(err)
		}
	})
	return nil
}

// briefly runs an instance that must serve, and ends it.
func (p *place) briefly(what string, i instance) {
	p.Helper()
	p.Run(what, func(t *testing.T) {
		own := *p
		own.T = t
		if err := own.run(i); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	})
}

// refused wants an instance to be refused with these words.
func (p *place) refused(i instance, words ...string) {
	p.Helper()
	err := p.run(i)
	for _, want := range words {
		if err == nil || !strings.Contains(err.Error(), want) {
			p.Errorf("error %v, want %q", err, want)
		}
	}
}

func (p *place) remove() {
	p.Helper()
	if err := p.open(p.T, "").(driver.Remover).RemoveChannel(p.Context(), p.channel); err != nil {
		p.Fatal(err)
	}
}

// Check runs the cases. open connects to the broker by its URL with a query such
// as "partitions=8", or none, and closes the connection at the test's end.
func Check(t *testing.T, open func(t *testing.T, query string) driver.Conn) {
	t.Run("Ordered of a new channel", func(t *testing.T) {
		p := newPlace(t, open)
		p.refused(instance{ordered: true}, "Partitions on the contract's channel or partitions=8 in the URL", "leave Ordered out and run one instance")
		p.briefly("in the URL", instance{ordered: true, query: "partitions=8"})
		p.remove()
		p.briefly("on the channel", instance{ordered: true, partitions: 8})
		p.remove()
		p.briefly("left out", instance{})
	})
	t.Run("Ordered of a channel that was made without partitions", func(t *testing.T) {
		p := newPlace(t, open)
		p.briefly("made", instance{})
		p.refused(instance{ordered: true, query: "partitions=8"}, "the channel was made without partitions", "let it become empty, remove it (dovetail topology remove "+p.channel+")",
			"partitions=8 in the URL", "leave Ordered out and run one instance")
		p.briefly("left out", instance{query: "partitions=8"})
		p.remove()
		p.briefly("removed", instance{ordered: true, query: "partitions=8"})
	})
	t.Run("Partitions of a channel that was made without", func(t *testing.T) {
		p := newPlace(t, open)
		p.briefly("made", instance{})
		p.refused(instance{partitions: 4}, "not 4, and their number is fixed", "remove it (dovetail topology remove "+p.channel+")", "or leave Partitions out")
		p.briefly("left out", instance{})
		p.remove()
		p.briefly("removed", instance{partitions: 4, ordered: true})
		p.refused(instance{partitions: 8}, "it has 4 partitions, not 8", "or declare 4")
		p.briefly("declared", instance{partitions: 4})
	})
	t.Run("A second instance", func(t *testing.T) {
		for name, i := range map[string]struct {
			instance
			warned bool
		}{
			"without owners":                   {instance{}, true},
			"without owners, beside a new URL": {instance{query: "partitions=4"}, true},
			"with owners":                      {instance{partitions: 4}, false},
			"without a key":                    {instance{unkeyed: true}, false},
		} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				second(newPlace(t, open), i.instance, i.warned)
			})
		}
	})
}

// second runs two instances, of which either may be the one that warns, and the
// first of them must not as long as it is alone.
func second(p *place, i instance, warned bool) {
	var two atomic.Bool
	told := make(chan dovetail.Notice, 10)
	i.told = func(n dovetail.Notice) {
		if n.Kind == dovetail.NoticeUnordered {
			if !two.Load() {
				p.Error("warned of another instance where there is none")
			}
			told <- n
		}
	}
	if i.query != "" { // the channel is there before the URL asks for partitions
		p.briefly("made", instance{})
	}
	if err := p.run(i); err != nil {
		p.Fatal(err)
	}
	const looks = 3 * time.Second // the core looks twice within two seconds
	<-time.After(looks)
	two.Store(true)
	if err := p.run(i); err != nil {
		p.Fatal(err)
	}
	if !warned {
		select {
		case n := <-told:
			p.Errorf("warned: %v", n.Err)
		case <-time.After(looks):
		}
		return
	}
	select {
	case n := <-told:
		for _, want := range []string{"run one instance", "without a key", "dovetail topology remove " + p.channel, "partitions=8 in the URL"} {
			if !strings.Contains(n.Err.Error(), want) {
				p.Errorf("warning %q, want %q", n.Err, want)
			}
		}
	case <-time.After(patience):
		p.Error("no warning")
	}
}
