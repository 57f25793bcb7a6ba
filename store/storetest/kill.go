package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/dovetail-go/dovetail/internal/crash"
	"github.com/dovetail-go/dovetail/store"
)

// jobVariable tells a child process what to do: a job as JSON.
const jobVariable = "DOVETAIL_STORETEST_JOB"

// job is what a child process does until it kills itself.
type job struct {
	Dir   string // of the database and of the file that stands for a broker
	Point string // where it dies
	Times int    // when it passes there for the so manieth time
	Seed  uint64
}

func childJob() *job {
	text := os.Getenv(jobVariable)
	if text == "" {
		return nil
	}
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		panic(err) // it is our own
	}
	return &j
}

// points are those of some parts that a process using this store passes.
func (s suite[Tx]) points(parts ...crash.Part) (names []string) {
	var own []string // of stores
	for _, step := range []store.Step{store.Written, store.Sent, store.Moving, store.Promoting, store.Retiring} {
		if !slices.Contains(s.h.Steps, step) {
			own = append(own, step.String())
		}
	}
	for _, part := range parts {
		for _, p := range crash.Points(part) {
			if !slices.Contains(own, p.Name) {
				names = append(names, p.Name)
			}
		}
	}
	return names
}

// child runs a job in a process of its own, which must end by killing itself.
func (e *env[Tx]) child(j job) {
	e.Helper()
	text, err := json.Marshal(j)
	e.must(err)
	exe, err := os.Executable()
	e.must(err)
	cmd := exec.CommandContext(e.ctx, exe, "-test.run=^"+strings.ReplaceAll(e.Name(), "/", "$/^")+"$", "-test.timeout=90s")
	cmd.Env = append(os.Environ(), jobVariable+"="+string(text), "TMPDIR="+e.TempDir()) // a killed process removes nothing
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		e.Fatalf("child for %s: %v, want it killed\n%s", j.Point, err, out)
	}
	if status, ok := exit.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != syscall.SIGKILL {
		e.Fatalf("child for %s: %v, want it killed\n%s", j.Point, err, out)
	}
}

// unanswered is a database that loses the answer to every fifth commit, and to
// every fifth roll-back that a commit ends in.
func unanswered[Tx any](db store.DB[Tx]) store.DB[Tx] { return &deaf[Tx]{DB: db} }

type deaf[Tx any] struct {
	store.DB[Tx]
	commits atomic.Int64
}

// lostAnswer is in the errors that unanswered makes.
const lostAnswer = "the answer was lost"

func (d *deaf[Tx]) Commit(ctx context.Context, tx Tx, w store.Writes) error {
	var err error
	switch d.commits.Add(1) % 5 {
	case 1:
		err = d.DB.Commit(ctx, tx, w)
	case 3:
		err = d.DB.Rollback(ctx, tx)
	default:
		return d.DB.Commit(ctx, tx, w)
	}
	if err != nil {
		return err
	}
	return fmt.Errorf("%s: %w", lostAnswer, store.ErrUnknown)
}
