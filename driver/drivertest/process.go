package drivertest

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
)

// M is what Main needs of a *testing.M.
type M interface{ Run() int }

// Main wraps a package's tests so that [Faults] can run the test binary again, as
// a process that consumes and can be killed:
//
//	func TestMain(m *testing.M) { os.Exit(drivertest.Main(m).Run()) }
func Main(m M) M { return mortals{m} }

type mortals struct{ m M }

func (p mortals) Run() int {
	if os.Getenv(processVariable) == "" {
		return p.m.Run()
	}
	if err := consumeInProcess(); err != nil {
		fmt.Fprintln(os.Stderr, "a process of the suite ended:", err)
		return 1
	}
	return 0
}

// processVariable says to a process what it consumes or sends.
const processVariable = "DOVETAIL_TEST_PROCESS"

type processTask struct {
	URL          string
	Subscription driver.Subscription

	// With Keys set it sends, the messages From up to but without To.
	Prefix         string
	From, To, Keys int
}

// handled is a delivery as a process tells of it.
type handled struct {
	Instance, ID, Key, Body string
	Attempt, Partition      int
}

// sendInProcess has another process send, and waits for its end.
func sendInProcess(e *env, task processTask) {
	e.Helper()
	b, err := json.Marshal(task)
	if err != nil {
		e.Fatal(err)
	}
	ctx, cancel := e.within()
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), processVariable+"="+string(b))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		e.Fatalf("a process that sends: %v: %s (does TestMain call drivertest.Main?)", err, out)
	}
}

// consumeInProcess tells on standard output what it handles, before it
// acknowledges it. It ends with its parent, when it is not killed before.
func consumeInProcess() error {
	var task processTask
	if err := json.Unmarshal([]byte(os.Getenv(processVariable)), &task); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	c, err := driver.Open(ctx, task.URL)
	if err != nil {
		return err
	}
	if task.Keys > 0 {
		err := c.Send(ctx, Numbered(task.Subscription.Channel.Name, task.Prefix, task.From, task.To, task.Keys))
		return errors.Join(err, c.Close(ctx))
	}
	go func() {
		_, err := io.Copy(io.Discard, os.Stdin)
		cancel(errors.Join(errors.New("its parent is gone"), err))
	}()
	out := json.NewEncoder(os.Stdout)
	h := &member{conn: c, s: task.Subscription, most: 1,
		fail: func(format string, args ...any) { cancel(fmt.Errorf(format, args...)) },
		note: func(ds ...*driver.Delivery) {
			for _, d := range ds {
				m := d.Message
				if err := out.Encode(handled{task.Subscription.Instance, m.ID, m.Key, string(m.Body), d.Attempt, d.Partition}); err != nil {
					cancel(err)
				}
			}
		}}
	h.work(ctx)
	return context.Cause(ctx)
}

// processes are the consuming processes of a group. All write to one pipe, so that
// the group hears of what they handled in that order.
type processes struct {
	c       *ConsumerGroup
	url     string
	out     *os.File
	heard   sync.WaitGroup
	running []*exec.Cmd
	started int
}

func (c *ConsumerGroup) processes(url string) *processes {
	in, out, err := os.Pipe()
	if err != nil {
		c.t.Fatal(err)
	}
	p := &processes{c: c, url: url, out: out}
	p.heard.Go(func() {
		defer in.Close()
		for lines := bufio.NewScanner(in); lines.Scan(); {
			var got handled
			if err := json.Unmarshal(lines.Bytes(), &got); err != nil {
				c.t.Errorf("a consuming process wrote %q: does TestMain call drivertest.Main?", lines.Text())
				continue
			}
			c.recorder.note(got.Instance, c.s.Group, &driver.Delivery{Attempt: got.Attempt, Partition: got.Partition,
				Message: &driver.Message{Channel: c.s.Channel.Name, ID: got.ID, Key: got.Key, Body: []byte(got.Body)}})
		}
	})
	c.t.Cleanup(p.end)
	return p
}

// start starts another and returns the name of its instance.
func (p *processes) start() (instance string) {
	p.c.t.Helper()
	p.started++
	s := p.c.s
	s.Instance = fmt.Sprint("process-", p.started)
	task, err := json.Marshal(processTask{URL: p.url, Subscription: s})
	if err != nil {
		p.c.t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0], "-test.run=^$") // no tests, should nobody call Main
	cmd.Env = append(os.Environ(), processVariable+"="+string(task))
	cmd.Stdout, cmd.Stderr = p.out, os.Stderr
	if _, err := cmd.StdinPipe(); err != nil {
		p.c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		p.c.t.Fatal(err)
	}
	p.running = append(p.running, cmd)
	return s.Instance
}

// kill kills the one that has been there longest.
func (p *processes) kill() {
	cmd := p.running[0]
	p.running = p.running[1:]
	if err := cmd.Process.Kill(); err != nil {
		p.c.t.Errorf("kill a consuming process: %v", err) // it has ended by itself
	}
	if err := cmd.Wait(); !strings.Contains(fmt.Sprint(err), "killed") {
		p.c.t.Errorf("a consuming process ended before it was killed: %v", err)
	}
}

// end kills all, and returns when everything that they handled is noted.
func (p *processes) end() {
	for len(p.running) > 0 {
		p.kill()
	}
	_ = p.out.Close() // closing twice is fine
	p.heard.Wait()
}
