package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// runTest runs the checks, then every test of the workspace under the race
// detector, and ends with a table by module.
func runTest(ctx context.Context, r *repo, args []string) error {
	flags := flag.NewFlagSet("test", flag.ContinueOnError)
	timeout := flags.Duration("timeout", 20*time.Minute, "how long one package's tests may take")
	only := flags.String("only", "work", "which packages")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := raceWorks(ctx, r); err != nil {
		return err
	}
	passed, failed := r.check(ctx, checks())
	if ctx.Err() != nil {
		return ctx.Err()
	}
	res := newResults(r)
	res.checks = tally{run: passed + len(failed), passed: passed, failed: len(failed)}
	for _, name := range failed {
		res.failed = append(res.failed, "check: "+name)
	}
	tmp, err := newTempDir(r.dir)
	if err != nil {
		return err
	}
	testErr := test(ctx, r, res, *timeout, *only, tmp.env())
	var exit *exec.ExitError
	if again := res.takeAgain(); len(again) > 0 && ctx.Err() == nil {
		fmt.Printf("\nonce more, each by itself: %s\n", strings.Join(again, ", "))
		for _, p := range again {
			if err := goTest(ctx, r, res, *timeout, tmp.env(), "-count=1", p); err != nil && !errors.As(err, &exit) {
				fmt.Println(err)
			}
		}
		if res.total().failed == 0 && errors.As(testErr, &exit) {
			testErr = nil // all that it told of is over
		}
	}
	left, err := tmp.remove()
	if err != nil {
		return err
	}
	if ctx.Err() == nil {
		res.failLeft(left)
	}
	if testErr != nil && (!errors.As(testErr, &exit) || res.total().failed == 0) {
		fmt.Println(testErr) // nothing else has told it
	}
	res.write(os.Stdout)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if res.total().failed > 0 {
		return errReported
	}
	return testErr // go test failed and nothing that it said told so
}

// raceWorks says what is missing for the race detector before anything long
// begins.
func raceWorks(ctx context.Context, r *repo) error {
	const remedy = "the race detector needs cgo and a C compiler: install one (Debian: apt-get install gcc libc6-dev; macOS: xcode-select --install)"
	out, err := goStep(r.dir, "env", "CGO_ENABLED", "CC").run(ctx)
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	lines := strings.Split(out, "\n")
	if len(lines) < 2 {
		return fmt.Errorf("go env said %q", out)
	}
	cc, _, _ := strings.Cut(lines[1], " ")
	if _, err := exec.LookPath(cc); err != nil {
		return fmt.Errorf("%s, or set CC: %w", remedy, err)
	}
	if lines[0] != "1" {
		return fmt.Errorf("CGO_ENABLED is %s: %s and unset it", lines[0], remedy)
	}
	return nil
}

// test runs go test over the workspace and feeds res. Packages are built and
// run side by side, across modules.
func test(ctx context.Context, r *repo, res *results, timeout time.Duration, only string, env []string) error {
	list, err := goStep(r.dir, "list", "-e", only).run(ctx)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, list)
	}
	packages := strings.Fields(list)
	res.packages = len(packages)
	fmt.Printf("\ntesting %d packages of %d modules under the race detector; the first time compiles everything\n",
		res.packages, len(r.modules()))

	return goTest(ctx, r, res, timeout, env, packages...)
}

// goTest runs go test with further arguments and feeds res.
func goTest(ctx context.Context, r *repo, res *results, timeout time.Duration, env []string, args ...string) error {
	s := goStep(r.dir, append([]string{"test", "-race", "-vet=off", "-json", "-timeout=" + timeout.String()}, args...)...)
	s.env = env
	cmd := s.command(ctx)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	stop := tick(res.progress)
	readErr := res.read(out)
	_, _ = io.Copy(io.Discard, out) // so that go test ends also after a bad line
	waitErr := cmd.Wait()
	stop()
	return errors.Join(readErr, waitErr)
}

// An event is one line of go test -json; see "go doc test2json".
type event struct {
	Action      string
	Package     string
	ImportPath  string // of build-output and build-fail
	Test        string
	Elapsed     float64
	Output      string
	FailedBuild string
}

func (res *results) read(in io.Reader) error {
	dec := json.NewDecoder(in)
	for {
		var e event
		if err := dec.Decode(&e); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read go test's output: %w", err)
		}
		res.add(e)
	}
}
