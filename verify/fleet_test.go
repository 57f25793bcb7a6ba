package verify

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/internal/leak"
)

// asChild has the test binary be a process of a fleet.
const asChild = "DOVETAIL_VERIFY_CHILD"

func TestMain(m *testing.M) {
	switch os.Getenv(asChild) {
	case "":
		os.Exit(m.Run())
	case "serves":
		child()
	case "stumbles":
		child()
		fmt.Fprintln(os.Stderr, "dovetail: it does not close")
		os.Exit(1)
	case "starts":
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(1)
	case "falls":
		fmt.Fprintln(os.Stderr, "dovetail: nobody is there")
		os.Exit(1)
	}
}

// child is ready at once, counts the orders that it gets, and ends with its
// input.
func child() {
	in := json.NewDecoder(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	var j job
	if in.Decode(&j) != nil {
		return
	}
	r := report{Ready: true, Published: int64(j.Life)}
	for {
		if out.Encode(r) != nil {
			return
		}
		var o order
		if in.Decode(&o) != nil {
			return
		}
		r.Retried++
	}
}

func newFleet(t *testing.T, as string) *fleet {
	leak.Check(t)
	f := &fleet{failed: make(chan struct{}), log: slog.New(slog.DiscardHandler), command: func() *exec.Cmd {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), asChild+"="+as)
		return cmd
	}}
	t.Cleanup(func() { f.stop(writing) })
	return f
}

// until waits for something that another process does.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("timed out waiting for %s", what)
		}
	}
}

func (f *fleet) total() report {
	r, _ := f.counts()
	return r
}

func TestFleet_starts_again_what_was_killed_and_keeps_its_counts(t *testing.T) {
	f := newFleet(t, "serves")
	f.start(job{Role: writing, Instance: "one"}, false)
	f.start(job{Role: writing, Instance: "two"}, true)
	if err := f.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	first := f.members[0]
	if !first.kill() || first.kill() {
		t.Error("a process that is ready is killed once")
	}
	if f.members[1].kill() {
		t.Error("a process that is to be spared was killed")
	}
	until(t, "the second life", func() bool { return f.total().Published == 1+2+1 }) // lives 1 and 2 of one, life 1 of two
	first.pause(true)
	until(t, "the order", func() bool { return f.total().Retried == 1 })
	f.mu.Lock()
	if len(f.falls)+f.starts > 0 {
		t.Errorf("ended by themselves: %v; failed starts %d: a kill is none", f.falls, f.starts)
	}
	f.mu.Unlock()
	until(t, "it to be ready", first.kill)
	until(t, "the third life to be told", func() bool { return f.total().Published == 1+2+3+1 && f.total().Retried == 2 })
}

func TestFleet_renews_a_process_without_a_fall(t *testing.T) {
	f := newFleet(t, "serves")
	f.start(job{Role: writing, Instance: "one"}, true)
	if err := f.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := f.members[0]
	m.renew(func(j *job) { j.Deployed = true })
	m.again(t.Context(), 20*time.Second)
	if got := f.total().Published; got != 1+2 {
		t.Errorf("lives add up to %d, want a second one that is ready", got)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.falls)+f.starts > 0 || f.kills > 0 {
		t.Errorf("falls %v, failed starts %d, kills %d: want none", f.falls, f.starts, f.kills)
	}
}

func TestFleet_keeps_what_a_process_says_that_does_not_end_as_it_should(t *testing.T) {
	f := newFleet(t, "stumbles")
	f.start(job{Role: writing, Instance: "one"}, true)
	if err := f.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := f.members[0]
	m.renew(func(*job) {})
	m.again(t.Context(), 20*time.Second)
	f.stop(writing)
	want := "one: exit status 1: dovetail: it does not close"
	if !slices.Equal(f.ends, []string{want, want}) {
		t.Errorf("%q, want it twice: when it was renewed, and at the end", f.ends)
	}
	r := &run{groups: []Group{{Name: "all"}}, fleet: f, faults: &faults{nodes: newNodes(&Options{})}}
	r.Consumers = 1
	rep := &Report{}
	if r.words(rep); !slices.Contains(rep.Notes, "a process did not end as it should: "+want) {
		t.Errorf("notes %q", rep.Notes)
	}
}

func TestFleet_has_nothing_to_say_of_a_process_that_is_told_to_end_before_it_was_ready(t *testing.T) {
	f := newFleet(t, "starts")
	f.start(job{Role: writing, Instance: "one"}, true)
	f.stop(writing)
	if len(f.ends) > 0 {
		t.Errorf("%q", f.ends)
	}
}

func TestReport_does_not_say_that_outcomes_were_checked_that_could_not_be_written(t *testing.T) {
	told, err := openDiary(t.TempDir() + "/diary")
	if err != nil {
		t.Fatal(err)
	}
	if err := told.close(); err != nil { // what is written to it fails
		t.Fatal(err)
	}
	told.write(Outcome{"a", Committed, 1})
	told.write(Outcome{"b", Committed, 1})
	r := &run{groups: []Group{{Name: "all"}}, fleet: &fleet{members: []*member{{past: report{Unwritten: told.missing()}}}}, faults: &faults{nodes: newNodes(&Options{})}}
	r.Consumers = 1
	rep := &Report{}
	r.words(rep)
	if !slices.Contains(rep.Unchecked, "what the writers were told of 2 commits or more, which they could not write down") {
		t.Errorf("not checked %q", rep.Unchecked)
	}
}

func TestFleet_stops_and_wakes_processes(t *testing.T) {
	if !canStop {
		t.Skip("declared gap: this system has no SIGSTOP (canStop)")
	}
	f := newFleet(t, "serves")
	f.start(job{Role: writing, Instance: "one"}, false)
	if err := f.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	m := f.members[0]
	if !m.sleep() || m.sleep() {
		t.Fatal("a process that is ready is stopped once")
	}
	m.pause(true) // it hears of it when it wakes
	m.wake()
	until(t, "the order", func() bool { return f.total().Retried == 1 })
	if !m.sleep() {
		t.Fatal("it cannot be stopped again")
	}
	f.stop(writing) // wakes it first
}

func TestFleet_gives_up_on_what_does_not_come_up(t *testing.T) {
	f := newFleet(t, "falls")
	f.patience = 3
	f.start(job{Role: writing, Instance: "one"}, false)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := f.ready(ctx); err == nil || !strings.Contains(err.Error(), "nobody is there") || !strings.Contains(err.Error(), "one") {
		t.Errorf("%v, want what the process said last", err)
	}
}

func TestServe_says_that_it_is_for_verify_alone(t *testing.T) {
	err := Serve(t.Context(), nil, strings.NewReader("hello\n"), io.Discard)
	if err == nil || !strings.Contains(err.Error(), "dovetail verify itself") {
		t.Errorf("%v", err)
	}
}

func TestDiary_is_read_up_to_where_it_was_cut_off(t *testing.T) {
	path := t.TempDir() + "/diary"
	want := []Outcome{{"a", Committed, 3}, {"b", RolledBack, 0}, {"c", Unknown, 1}}
	for _, o := range want {
		d, err := openDiary(path)
		if err != nil {
			t.Fatal(err)
		}
		d.write(o)
		if err := d.close(); err != nil {
			t.Fatal(err)
		}
	}
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(file)
	fmt.Fprint(w, "d\t4\tcomm")
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	var got []Outcome
	if err := readDiary(path, func(o Outcome) { got = append(got, o) }); err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("read %v, %v, want %v", got, err, want)
	}
	if err := readDiary(path+".gone", func(Outcome) {}); err != nil {
		t.Errorf("a writer that was killed before it wrote: %v", err)
	}
}

func TestOptions_name_what_is_wrong(t *testing.T) {
	base := func() Options {
		return Options{Broker: "file:x", Store: "sqlite:y", Dir: "z", Command: func() *exec.Cmd { return nil },
			Open: func(context.Context, string, string, bool) (Store, error) { return nil, nil }}
	}
	if o, err := base().withDefaults(); err != nil || o.Effects != o.Store || o.Rollbacks != 0.1 {
		t.Errorf("%+v, %v", o, err)
	}
	nodes := base()
	nodes.Nodes, nodes.Node, nodes.NodeEvery, nodes.NodeFaults = []string{"a"}, func(context.Context, string, string) error { return nil }, time.Second, []string{}
	if o, err := nodes.withDefaults(); err != nil || len(o.NodeFaults) == 0 {
		t.Errorf("faults %q, %v: want the default where none are named", o.NodeFaults, err)
	}
	for want, edit := range map[string]func(*Options){
		"Options.Broker":  func(o *Options) { o.Broker = "" },
		"Options.Writers": func(o *Options) { o.Writers = -1 },
		"Options.Seconds": func(o *Options) { o.Seconds = math.NaN() },
		"Failures":        func(o *Options) { o.Failures = math.NaN() },
		"Options.Keys":    func(o *Options) { o.Keys = 2_000_000 },
		"Rollbacks":       func(o *Options) { o.Rollbacks = 1 },
		"Options.Kill":    func(o *Options) { o.Kill = time.Millisecond },
	} {
		o := base()
		edit(&o)
		if _, err := o.withDefaults(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s in it", err, want)
		}
	}
}

func TestFleet_does_not_count_falls_while_a_node_is_away(t *testing.T) {
	f := newFleet(t, "falls")
	away := 6 // looks
	f.patience, f.excused = 2, func() bool { away--; return away >= 0 }
	f.start(job{Role: writing, Instance: "one"}, false)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := f.ready(ctx); err == nil || ctx.Err() != nil {
		t.Fatalf("%v, want an error in the end", err)
	}
	if f.starts != 6+3 {
		t.Errorf("given up after %d starts, want three more than those while a node was away", f.starts)
	}
}
