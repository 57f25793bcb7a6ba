package main

import (
	"context"
	"flag"
	"fmt"
	"go/ast"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/internal/house"
)

// runBench runs the benchmarks of every module, one package at a time so that
// they do not disturb each other.
func runBench(ctx context.Context, r *repo, args []string) error {
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	match := flags.String("match", ".", "benchmarks to run, as a regular expression")
	count := flags.Int("count", 1, "how often to run each")
	if err := flags.Parse(args); err != nil {
		return err
	}
	targets := r.functions("Benchmark")
	if len(targets) == 0 {
		fmt.Println("there are no benchmarks")
		return nil
	}
	var dirs []string
	for _, t := range targets {
		if !slices.Contains(dirs, t.dir) {
			dirs = append(dirs, t.dir)
		}
	}
	for i, dir := range dirs {
		fmt.Printf("[%d/%d] %s\n", i+1, len(dirs), dir)
		s := goStep(r.path(dir), "test", "-run=^$", "-bench="+*match, "-benchmem", fmt.Sprintf("-count=%d", *count), ".")
		if err := s.stream(ctx); err != nil {
			return err
		}
	}
	return nil
}

// runFuzz gives every fuzz target some time.
func runFuzz(ctx context.Context, r *repo, args []string) error {
	flags := flag.NewFlagSet("fuzz", flag.ContinueOnError)
	each := flags.Duration("for", time.Minute, "how long to try each target")
	if err := flags.Parse(args); err != nil {
		return err
	}
	targets := r.functions("Fuzz")
	fmt.Printf("%d fuzz targets, %s each\n", len(targets), *each)
	failed := 0
	for i, t := range targets {
		fmt.Printf("[%d/%d] %s %s\n", i+1, len(targets), t.dir, t.name)
		s := goStep(r.path(t.dir), "test", "-run=^$", "-fuzz=^"+t.name+"$", "-fuzztime="+each.String(), ".")
		out, err := s.tee(ctx)
		switch {
		case err == nil:
		case onlyTimeUp(out):
			fmt.Println("ok    what go test says is that time was up")
		default:
			failed++
			fmt.Println("FAIL ", err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	fmt.Printf("%d passed, %d failed\n", len(targets)-failed, failed)
	if failed > 0 {
		return errReported
	}
	return nil
}

// onlyTimeUp reports whether a fuzz target failed by nothing but the end of its
// time, as it may before Go 1.27 (https://go.dev/issue/75804). A real finding
// is written down and says so.
func onlyTimeUp(out string) bool {
	return strings.Contains(out, "\n    context deadline exceeded\n") && !strings.Contains(out, "Failing input written")
}

type function struct{ dir, name string }

// functions returns the test functions of the workspace whose names begin with
// prefix.
func (r *repo) functions(prefix string) (all []function) {
	work := map[*house.Module]bool{}
	for _, m := range r.modules() {
		work[m] = true
	}
	for _, f := range r.tree.Files {
		if !f.Test || f.AST == nil || !work[f.Module] {
			continue
		}
		for _, d := range f.AST.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, prefix) {
				all = append(all, function{path.Dir(f.Path), fn.Name.Name})
			}
		}
	}
	return all
}
