//go:build linux || darwin

package filebus

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
)

// The tests of this file run processes that are killed with SIGKILL: this test
// binary, started again with a role. What a process does it first writes to a
// journal, a file that all of them append to: the order of its lines is the
// order in which things happened.

const (
	envRole    = "FILEBUS_TEST_ROLE"
	envDir     = "FILEBUS_TEST_DIR"
	envKill    = "FILEBUS_TEST_KILL" // "step:n": die the n-th time that step is reached
	envJournal = "FILEBUS_TEST_JOURNAL"
	envFrom    = "FILEBUS_TEST_FROM"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(envRole); role != "" {
		if err := child(role); err != nil {
			fmt.Fprintln(os.Stderr, role+":", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(drivertest.Main(m).Run())
}

var crashOptions = Options{SegmentBytes: 64 << 10, Partitions: 4}

const crashBatch = 10

func crashMessage(n int) *driver.Message {
	return &driver.Message{Channel: "orders", ID: strconv.Itoa(n), Key: "k" + strconv.Itoa(n%9), Body: make([]byte, 1000)}
}

func crashSubscription() driver.Subscription {
	return driver.Subscription{Channel: driver.Channel{Name: "orders"}, Group: "worker", Instance: "child", Window: 30}
}

// dieAt kills this process when it comes to a step for the n-th time.
func dieAt(kill string) {
	name, times, ok := strings.Cut(kill, ":")
	if !ok {
		return
	}
	left, _ := strconv.Atoi(times)
	step = func(at string) {
		if at != name {
			return
		}
		if left--; left == 0 {
			syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
}

func child(role string) error {
	ctx := context.Background()
	opts := crashOptions
	opts.Dir = os.Getenv(envDir)
	journal, err := os.OpenFile(os.Getenv(envJournal), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	dieAt(os.Getenv(envKill))
	c, err := Open(ctx, opts)
	if err != nil {
		return err
	}
	s := crashSubscription()
	if err := c.Provision(ctx, []driver.Channel{s.Channel}, []driver.Subscription{s}); err != nil {
		return err
	}
	switch role {
	case "sender":
		return sendAll(ctx, c, journal)
	case "delayer":
		m := crashMessage(0)
		m.Due = time.Now().Add(50 * time.Millisecond)
		if err := c.Send(ctx, []*driver.Message{m}); err != nil {
			return err
		}
		fmt.Fprintln(journal, "confirmed 0")
		select {}
	case "remover":
		stored, err := c.Browse(ctx, "orders", "", 5)
		if err != nil {
			return err
		}
		var at []string
		for _, st := range stored {
			at = append(at, st.Position)
		}
		return c.Remove(ctx, "orders", at)
	case "full":
		return fillUp(ctx, c, journal)
	case "destroyer":
		return c.RemoveChannel(ctx, "orders")
	}
	r, err := c.OpenReceiver(ctx, s)
	if err != nil {
		return err
	}
	for {
		ds, err := r.Receive(ctx, 7)
		if err != nil {
			return err
		}
		var line strings.Builder
		ss := make([]driver.Settlement, len(ds))
		for i, d := range ds {
			fmt.Fprintf(&line, "handled %s %d\n", d.Message.ID, d.Attempt)
			ss[i] = driver.Settlement{Delivery: d}
		}
		if _, err := journal.WriteString(line.String()); err != nil {
			return err
		}
		if err := r.Settle(ctx, ss); err != nil {
			return err
		}
		line.Reset()
		for _, d := range ds {
			fmt.Fprintf(&line, "settled %s\n", d.Message.ID)
		}
		if _, err := journal.WriteString(line.String()); err != nil {
			return err
		}
	}
}

// sendAll sends until it is killed.
func sendAll(ctx context.Context, c *Conn, journal *os.File) error {
	from, _ := strconv.Atoi(os.Getenv(envFrom))
	for n := from; ; n += crashBatch {
		var ms []*driver.Message
		for i := range crashBatch {
			ms = append(ms, crashMessage(n+i))
		}
		if err := c.Send(ctx, ms); err != nil {
			return err
		}
		fmt.Fprintf(journal, "confirmed %d\n", n)
	}
}

// A crashTest is a directory that processes of several roles use.
type crashTest struct {
	*bench
	journal string
}

func newCrashTest(t *testing.T) *crashTest {
	drivertest.CheckLeaks(t)
	b := newBench(t, crashOptions)
	b.sub = crashSubscription()
	return &crashTest{bench: b, journal: filepath.Join(t.TempDir(), "journal")}
}

// start starts a process in a role. It is killed when the test ends.
func (ct *crashTest) start(role, kill string, from int) *exec.Cmd {
	ct.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), envRole+"="+role, envDir+"="+ct.opts.Dir, envKill+"="+kill,
		envJournal+"="+ct.journal, envFrom+"="+strconv.Itoa(from))
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		ct.Fatal(err)
	}
	ct.Cleanup(func() { ct.kill(cmd) })
	return cmd
}

func (ct *crashTest) kill(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		cmd.Process.Kill()
		cmd.Wait()
	}
}

// died waits until a process has killed itself.
func (ct *crashTest) died(cmd *exec.Cmd) {
	ct.Helper()
	timer := time.AfterFunc(20*time.Second, func() { cmd.Process.Kill() })
	err := cmd.Wait()
	var exit *exec.ExitError
	if !timer.Stop() {
		ct.Fatal("the process did not come to the step at which it should die")
	}
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		ct.Fatalf("the process ended with %v, want it killed", err)
	}
}

// lines returns the journal's lines that begin with a word, without it.
func (ct *crashTest) lines(word string) []string {
	ct.Helper()
	f, err := os.Open(ct.journal)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		ct.Fatal(err)
	}
	defer f.Close()
	var lines []string
	for sc := bufio.NewScanner(f); sc.Scan(); {
		if rest, ok := strings.CutPrefix(sc.Text(), word+" "); ok {
			lines = append(lines, rest)
		}
	}
	return lines
}

// await looks at the journal until done.
func (ct *crashTest) await(what string, done func() bool) {
	ct.Helper()
	deadline := time.NewTimer(20 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline.C:
			ct.Fatalf("waited in vain for %s", what)
		}
	}
}

// confirmed returns the ids of what senders were told was sent.
func (ct *crashTest) confirmed() map[string]bool {
	ids := map[string]bool{}
	for _, l := range ct.lines("confirmed") {
		from, _ := strconv.Atoi(l)
		for n := from; n < from+crashBatch; n++ {
			ids[strconv.Itoa(n)] = true
		}
	}
	return ids
}

func TestCrash_of_a_sender_at_every_step_loses_nothing_confirmed(t *testing.T) {
	for _, kill := range []string{"locked:5", "written:5", "synced:5", "marked:5", "segment made:2", "segment headed:2", "rolled:2",
		"channel made:1", "group made:1", "file written:1", "file written:2", "file written:3", "file named:1", "file named:2", "file named:3"} {
		t.Run(kill, func(t *testing.T) {
			t.Parallel()
			ct := newCrashTest(t)
			ct.died(ct.start("sender", kill, 0))
			want := ct.confirmed()
			c := ct.open()
			ct.send(c, 5000, 1) // the log is none the worse for it
			r := ct.receiver(c)
			last, seen := map[string]int{}, map[string]bool{}
			for !seen["5000"] {
				for _, d := range ct.take(r, 1, true) {
					if seen[d.Message.ID] || d.Fault != nil {
						t.Fatalf("%s came twice, or with a fault: %v", d.Message.ID, d.Fault)
					}
					seen[d.Message.ID] = true
					n, _ := strconv.Atoi(d.Message.ID)
					if before, ok := last[d.Message.Key]; ok && n <= before {
						t.Fatalf("%d after %d", n, before)
					}
					last[d.Message.Key] = n
				}
				if len(seen) > len(want)+crashBatch+1 {
					t.Fatalf("%d came, %d were confirmed", len(seen), len(want))
				}
			}
			for id := range want {
				for !seen[id] {
					d := ct.take(r, 1, true)[0] // of a partition that 5000 is not in
					seen[d.Message.ID] = true
				}
			}
		})
	}
}

func TestCrash_of_a_receiver_at_every_step_leaves_the_rest_to_its_successor(t *testing.T) {
	for _, kill := range []string{"cursor written:1", "cursor written:2", "cursor written:30", "segment deleted:1", "released:1", "member made:1", "joined:1"} {
		t.Run(kill, func(t *testing.T) {
			t.Parallel()
			ct := newCrashTest(t)
			c := ct.open()
			const n = 300
			for i := 0; i < n; i += 50 {
				var ms []*driver.Message
				for k := range 50 {
					ms = append(ms, crashMessage(i+k))
				}
				if err := c.Send(ct.ctx(), ms); err != nil {
					t.Fatal(err)
				}
			}
			victim := ct.start("receiver", kill, 0)
			var r *receiver
			if strings.HasPrefix(kill, "released") {
				ct.await("the receiver to begin", func() bool { return len(ct.lines("handled")) > 0 })
				r = ct.receiver(c) // wants half of it
			}
			ct.died(victim)
			if r == nil {
				r = ct.receiver(c)
			}
			settled, handled := map[string]bool{}, map[string]int{}
			for _, id := range ct.lines("settled") {
				settled[id] = true
			}
			last := map[int]int{}
			for _, l := range ct.lines("handled") {
				id, attempt, _ := strings.Cut(l, " ")
				handled[id], _ = strconv.Atoi(attempt)
				k, _ := strconv.Atoi(id)
				last[k%9] = k
			}
			mine := map[string]bool{}
			for len(mine) < n && !all(n, mine, handled) {
				d := ct.take(r, 1, true)[0]
				id := d.Message.ID
				k, _ := strconv.Atoi(id)
				switch {
				case settled[id]:
					t.Fatalf("%s was settled and comes again", id)
				case mine[id]:
					t.Fatalf("%s comes twice", id)
				case handled[id] > 0 && d.Attempt != handled[id]+1:
					t.Errorf("%s comes as attempt %d after %d", id, d.Attempt, handled[id])
				case handled[id] == 0 && k < last[k%9]:
					t.Fatalf("%s is first handled after %d of its key", id, last[k%9])
				}
				mine[id] = true
				last[k%9] = max(k, last[k%9])
			}
		})
	}
}

// all reports whether each of n messages was handled by one or the other.
func all(n int, mine map[string]bool, handled map[string]int) bool {
	for i := range n {
		id := strconv.Itoa(i)
		if !mine[id] && handled[id] == 0 {
			return false
		}
	}
	return true
}

// Senders and receivers in processes of their own are killed at random moments
// and replaced.
func TestCrash_at_random_loses_nothing_and_keeps_order(t *testing.T) {
	ct := newCrashTest(t)
	c := ct.open()
	rounds := 6
	if testing.Short() {
		rounds = 2
	}
	ct.start("receiver", "", 0) // one that lives
	receivers := []*exec.Cmd{ct.start("receiver", "cursor written:21", 0), ct.start("receiver", "released:2", 0)}
	for round := range rounds {
		had := len(ct.lines("confirmed"))
		sender := ct.start("sender", "", round*10_000)
		ct.await("the sender to send", func() bool { return len(ct.lines("confirmed")) >= had+3+5*round })
		handled := len(ct.lines("handled"))
		ct.kill(receivers[round%2])
		ct.await("the other receiver to take over", func() bool { return len(ct.lines("handled")) > handled })
		ct.kill(sender)
		// Died at a moment of ours, or before that at one of its own.
		receivers[round%2] = ct.start("receiver", fmt.Sprintf("cursor written:%d", 9+14*round), 0)
	}
	want := ct.confirmed()
	ct.await("everything confirmed to be handled", func() bool {
		seen := map[string]bool{}
		for _, l := range ct.lines("handled") {
			id, _, _ := strings.Cut(l, " ")
			seen[id] = true
		}
		for id := range want {
			if !seen[id] {
				return false
			}
		}
		return true
	})
	first, last := map[string]bool{}, map[int]int{}
	for _, l := range ct.lines("handled") {
		id, attempt, _ := strings.Cut(l, " ")
		if first[id] {
			if attempt == "1" {
				t.Errorf("%s came twice as its first attempt", id)
			}
			continue
		}
		first[id] = true
		n, _ := strconv.Atoi(id)
		if n < last[n%9] {
			t.Errorf("%d was first handled after %d of its key", n, last[n%9])
		}
		last[n%9] = n
	}
	infos, err := c.Channels(ct.ctx())
	if err != nil || len(infos) != 1 || infos[0].Messages > crashBatch*int64(rounds) {
		t.Errorf("left over: %+v, %v", infos, err)
	}
	t.Logf("%d confirmed, %d handled, %d times", len(want), len(first), len(ct.lines("handled")))
}

func TestCrash_of_whoever_moves_a_delayed_message_does_not_lose_it(t *testing.T) {
	for _, kill := range []string{"moved:1", "removing:1"} {
		t.Run(kill, func(t *testing.T) {
			t.Parallel()
			ct := newCrashTest(t)
			ct.died(ct.start("delayer", kill, 0))
			c := ct.open()
			r := ct.receiver(c)
			if len(ct.lines("confirmed")) != 1 {
				t.Fatal("the message was not confirmed")
			}
			// Moved twice, once by each process; the second time under the same id.
			for range 2 {
				if d := ct.take(r, 1, true)[0]; d.Message.ID != "0" {
					t.Fatalf("got %s", d.Message.ID)
				}
				if kill == "removing:1" {
					break // it was taken out already, only not counted yet
				}
			}
			ct.nothing(r)
		})
	}
}

func TestCrash_while_removing_leaves_whole_messages_and_whole_channels(t *testing.T) {
	t.Run("messages", func(t *testing.T) {
		t.Parallel()
		ct := newCrashTest(t)
		c := ct.open()
		ct.send(c, 0, 20)
		ct.died(ct.start("remover", "removing:1", 0))
		page, err := c.Browse(ct.ctx(), "orders", "", 100)
		if err != nil || len(page) != 15 {
			t.Fatalf("%d messages, %v; want 15", len(page), err)
		}
		// The next removal counts again what the dead one did not write down.
		if err := c.Remove(ct.ctx(), "orders", []string{page[0].Position}); err != nil {
			t.Fatal(err)
		}
		_, info, err := openSegment(filepath.Dir(ct.lastSegment()), 0, 4)
		if err != nil || info.removed != 6 || info.removing {
			t.Errorf("the segment says that %d were removed (removing: %v), %v; want 6", info.removed, info.removing, err)
		}
	})
	for _, kill := range []string{"dead:1", "discarded:1"} {
		t.Run("a channel, "+kill, func(t *testing.T) {
			t.Parallel()
			ct := newCrashTest(t)
			c := ct.open()
			ct.send(c, 0, 20)
			ct.died(ct.start("destroyer", kill, 0))
			if err := c.Send(ct.ctx(), []*driver.Message{ct.message(1)}); !errors.Is(err, driver.ErrNotFound) {
				t.Errorf("send to a removed channel: %v", err)
			}
			c = ct.open()
			if left := must(filepath.Glob(filepath.Join(ct.opts.Dir, "trash", "*"))); len(left) != 0 {
				t.Errorf("the next process left %s", left)
			}
			ct.send(c, 50, 1)
			r := ct.receiver(c)
			if got := ct.take(r, 1, true); got[0].Message.ID != "50" {
				t.Errorf("got %s from a channel that is new", ids(got))
			}
			ct.nothing(r)
		})
	}
}
