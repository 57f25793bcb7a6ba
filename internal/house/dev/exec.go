package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// quietFor is how long a command may run before a line says that it still does.
const quietFor = 15 * time.Second

// A step is one command of a check.
type step struct {
	dir  string   // where it runs
	env  []string // beside the environment
	args []string
}

func goStep(dir string, args ...string) step {
	return step{dir: dir, args: append([]string{"go"}, args...)}
}

// alone has the step see its module only, as a consumer does.
func (s step) alone() step {
	s.env = append(s.env, "GOWORK=off")
	return s
}

func (s step) String() string { return strings.Join(s.args, " ") }

// command makes the step's command. It ends politely when ctx does.
func (s step) command(ctx context.Context) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.args[0], s.args[1:]...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// run runs the step and returns what it printed.
func (s step) run(ctx context.Context) (string, error) {
	var out bytes.Buffer
	cmd := s.command(ctx)
	cmd.Stdout, cmd.Stderr = &out, &out
	defer tick(s.String)()
	err := cmd.Run()
	if err == nil {
		return out.String(), nil
	}
	if ctx.Err() != nil {
		return out.String(), fmt.Errorf("%s: interrupted", s)
	}
	return out.String(), fmt.Errorf("%s: %w", s, err)
}

// stream runs the step with its output shown as it comes.
func (s step) stream(ctx context.Context) error {
	cmd := s.command(ctx)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", s, err)
	}
	return nil
}

// tee is stream that also returns the output.
func (s step) tee(ctx context.Context) (string, error) {
	var out bytes.Buffer
	cmd := s.command(ctx)
	cmd.Stdout = io.MultiWriter(os.Stdout, &out)
	cmd.Stderr = cmd.Stdout
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s: %w", s, err)
	}
	return out.String(), nil
}

// tick says every now and then that something is still going on, until stop.
func tick(what func() string) (stop func()) {
	start := time.Now()
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		t := time.NewTicker(quietFor)
		defer t.Stop()
		for {
			select {
			case <-done:
				return
			case <-t.C:
				fmt.Printf("… %s: %s\n", elapsed(start), what())
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

func elapsed(since time.Time) time.Duration { return time.Since(since).Round(time.Second) }

// indent puts four spaces before each line.
func indent(s string) string {
	s = strings.TrimRight(s, "\n")
	if s == "" {
		return ""
	}
	return "    " + strings.ReplaceAll(s, "\n", "\n    ") + "\n"
}
