package clustertest

import (
	"context"
	"errors"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/internal/leak"
	"github.com/dovetail-go/dovetail/store/memstore"
	_ "github.com/dovetail-go/dovetail/transport/membus" // mem:
)

func TestMain(m *testing.M) { os.Exit(leak.Main(m)) }

// broken says what connections of the scheme "faulty" do to messages, by the name of
// their bus: a change, from the first fault on.
var broken sync.Map

type change func(ms []*driver.Message) []*driver.Message

// A faulty connection is one of a bus in memory.
type faulty struct {
	driver.Conn
	bus string
}

func (f faulty) Send(ctx context.Context, ms []*driver.Message) error {
	if does, ok := broken.Load(f.bus); ok {
		ms = does.(change)(ms)
	}
	return f.Conn.Send(ctx, ms)
}

func init() {
	driver.Register("faulty", func(ctx context.Context, u *url.URL) (driver.Conn, error) {
		conn, err := driver.Open(ctx, "mem:"+u.Opaque)
		return faulty{conn, u.Opaque}, err
	})
}

// A node that does nothing but begin a defect when it is killed.
type node struct{ killed func() error }

func (node) Name() string                  { return "node" }
func (n node) Kill() error                 { return n.killed() }
func (node) Stop(context.Context) error    { return nil }
func (node) Restart(context.Context) error { return nil }
func (node) Pause() error                  { return nil }
func (node) Resume() error                 { return nil }
func (node) Close() error                  { return nil }

// breakWith breaks a cluster that changes messages from its first death on, and
// returns the problems that were found.
func breakWith(t *testing.T, name string, does change) (outcomes []Outcome, problems string) {
	t.Helper()
	n := node{func() error {
		if does != nil {
			broken.Store(name, does)
		}
		return nil
	}}
	h := Harness{Nodes: []Node{n, n, n}, URL: "faulty:" + name, Detection: time.Second, Without: []string{"stop", "freeze", "rolling"}}
	o := Lengths{Gone: 100 * time.Millisecond, Watch: 300 * time.Millisecond, Late: 100 * time.Millisecond, Patience: 2 * time.Second, Long: true}
	err := Break(t.Context(), h, memory{memstore.New()}, o, func(o Outcome) {
		outcomes = append(outcomes, o)
		problems += strings.Join(o.Problems, "\n") + "\n"
	})
	if err != nil {
		t.Fatal(err)
	}
	return outcomes, problems
}

func TestBreak_passes_a_cluster_that_outlives_everything(t *testing.T) {
	t.Parallel()
	outcomes, problems := breakWith(t, "good", nil)
	if len(outcomes) != 3 || strings.TrimSpace(problems) != "" {
		t.Errorf("%d faults, and problems:\n%s", len(outcomes), problems)
	}
	for _, o := range outcomes {
		if o.Committed == 0 || o.Handled != o.Committed || o.Requests == 0 || o.Failed > 0 || o.Waited == 0 {
			t.Error(o)
		}
	}
}

func TestBreak_finds_what_a_cluster_does_wrong(t *testing.T) {
	t.Parallel()
	is := func(m *driver.Message, what string) bool { return strings.HasSuffix(m.Channel, what) }
	each := func(f func(m *driver.Message) []*driver.Message) change {
		return func(ms []*driver.Message) (out []*driver.Message) {
			for _, m := range ms {
				out = append(out, f(m)...)
			}
			return out
		}
	}
	var n atomic.Int32
	for name, tt := range map[string]struct {
		does change
		want string
	}{
		"loses": {each(func(m *driver.Message) []*driver.Message {
			if is(m, ".noted") && n.Add(1)%10 == 0 {
				return nil
			}
			return []*driver.Message{m}
		}), "have no effect"},
		"doubles": {each(func(m *driver.Message) []*driver.Message {
			other := *m
			other.ID += "/again"
			return []*driver.Message{m, &other}
		}), "has 2 effects"},
		"invents": {each(func(m *driver.Message) []*driver.Message {
			other := *m
			other.ID, other.Body = m.ID+"/invented", []byte(`{"key":"k1","n":1000000}`)
			return []*driver.Message{m, &other}
		}), "never committed"},
		"answers nobody": {each(func(m *driver.Message) []*driver.Message {
			if is(m, ".double") {
				return nil
			}
			return []*driver.Message{m}
		}), "requests failed"},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			if _, problems := breakWith(t, strings.ReplaceAll(name, " ", "-"), tt.does); !strings.Contains(problems, tt.want) {
				t.Errorf("it found %q, want %q", problems, tt.want)
			}
		})
	}
}

// Where nodes say that they go, less time is allowed.
func TestBreak_bounds_what_waits_by_how_the_nodes_go(t *testing.T) {
	h := Harness{Detection: 5 * time.Second, Orderly: time.Second}
	sudden, orderly := &moments{}, &moments{}
	sudden.disturb()
	orderly.orderly()
	for name, o := range map[string]Outcome{
		"a message waited":        {Waited: 6 * time.Second},
		"no request was answered": {Unanswered: 6 * time.Second},
		"no message was handled":  {Still: 6 * time.Second},
	} {
		if got := o.tooLong(h.most(sudden), true); len(got) > 0 {
			t.Errorf("after a sudden loss it says %q", got)
		}
		if got := o.tooLong(h.most(orderly), true); len(got) != 1 || got[0] != name+" for 6s: want 4s at most" {
			t.Errorf("after an orderly stop it says %q, want %s", got, name)
		}
	}
}

func TestBreak_says_what_could_not_be_done(t *testing.T) {
	h := Harness{Nodes: []Node{node{func() error { return errors.New("no such process") }}}, URL: "faulty:undone"}
	err := Break(t.Context(), h, memory{memstore.New()}, Lengths{}, func(Outcome) {})
	if err == nil || !strings.Contains(err.Error(), "kill: no such process") {
		t.Errorf("it returned %v", err)
	}
}

func TestLengths_are_those_of_the_period(t *testing.T) {
	if o, err := lengthsFrom("30s", ""); err != nil || o.Frozen != 30*time.Second || o.Gone != 10*time.Second {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := lengthsFrom("", ""); err != nil || o.Frozen == 0 || o.Late != 10*time.Second {
		t.Errorf("%+v, %v", o, err)
	}
	for _, wrong := range []string{"x", "-1s", "0s"} {
		if _, err := lengthsFrom(wrong, ""); err == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}
