// Dev is what the Makefile runs: tests and checks over every module of the
// workspace, benchmarks, fuzzing, and the rehearsal of a release. It uses the
// standard library and the go command only.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/dovetail-go/dovetail/internal/house"
)

// errReported ends the program with code 1 after the reason was shown.
var errReported = errors.New("reported")

type command struct {
	name, does string
	run        func(ctx context.Context, r *repo, args []string) error
}

var commands = []command{
	{"test", "all checks, then the tests of every module with -race", runTest},
	{"check", "the checks alone, or those that are named by a word", runCheck},
	{"bench", "the benchmarks of every module", runBench},
	{"fuzz", "each fuzz target for a while", runFuzz},
	{"docs", "copy code into the documents that show it", runDocs},
	{"api", "write api.txt, the list of what is exported", runAPI},
	{"licences", "write docs/licences.md", runLicences},
	{"release", "rehearse a release, or tag it", runRelease},
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		if !errors.Is(err, errReported) {
			fmt.Fprintln(os.Stderr, "dev:", err)
		}
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		for _, c := range commands {
			if c.name == args[0] {
				r, err := openRepo()
				if err != nil {
					return err
				}
				return c.run(ctx, r, args[1:])
			}
		}
	}
	for _, c := range commands {
		fmt.Printf("  %-8s %s\n", c.name, c.does)
	}
	return fmt.Errorf("say which of these to do")
}

// A repo is the working copy that the program runs in.
type repo struct {
	dir  string // absolute
	tree *house.Tree
}

// openRepo finds the repository around the current directory.
func openRepo() (*repo, error) {
	dir, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			break
		}
		up := filepath.Dir(dir)
		if up == dir {
			return nil, fmt.Errorf("no go.work here or above: run it inside the repository")
		}
		dir = up
	}
	tree, err := house.Load(os.DirFS(dir))
	if err != nil {
		return nil, err
	}
	return &repo{dir, tree}, nil
}

// modules returns the modules of the workspace that have code.
func (r *repo) modules() (all []*house.Module) {
	for _, m := range r.tree.Modules {
		has := slices.ContainsFunc(r.tree.Files, func(f *house.File) bool { return f.Module == m })
		if m.InWork && has {
			all = append(all, m)
		}
	}
	return all
}

func (r *repo) path(elem ...string) string {
	return filepath.Join(append([]string{r.dir}, elem...)...)
}
