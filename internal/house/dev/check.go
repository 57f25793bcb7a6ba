package main

import (
	"context"
	"errors"
	"fmt"
	"go/format"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/internal/house"
)

// A check is one thing that make check looks at. What it returns is printed.
type check struct {
	name string
	run  func(ctx context.Context, r *repo) error
}

// checks are those of the repository alone.
func checks() []check {
	return []check{
		{"house rules", checkRules},
		{"gofmt", checkFormat},
		{"each module by itself: tidy, build, vet", checkModules},
		{"staticcheck", checkStatic},
		{"public API", checkAPI},
		{"licences of what is linked", checkLicences},
	}
}

// checksOfOthers are those whose outcome changes with what others publish. make
// test does without them: a commit that passed once passes again.
func checksOfOthers() []check {
	return []check{
		{"dependencies that are behind", checkBehind},
		{"known vulnerabilities", checkVulnerable},
	}
}

// runCheck runs all checks, or those whose names have one of the words.
func runCheck(ctx context.Context, r *repo, words []string) error {
	all := slices.DeleteFunc(append(checks(), checksOfOthers()...), func(c check) bool {
		return len(words) > 0 && !slices.ContainsFunc(words, func(w string) bool { return strings.Contains(c.name, w) })
	})
	passed, failed := r.check(ctx, all)
	fmt.Printf("\n%d checks passed, %d failed\n", passed, len(failed))
	if len(failed) > 0 {
		return errReported
	}
	return ctx.Err()
}

// check runs checks; none stops the others. It returns the names of those that
// failed.
func (r *repo) check(ctx context.Context, all []check) (passed int, failed []string) {
	for i, c := range all {
		start := time.Now()
		fmt.Printf("[%d/%d] %s\n", i+1, len(all), c.name)
		if err := c.run(ctx, r); err != nil {
			failed = append(failed, c.name)
			fmt.Printf("%sFAIL  %s (%s)\n", indent(err.Error()), c.name, elapsed(start))
			if ctx.Err() != nil {
				break
			}
			continue
		}
		passed++
		fmt.Printf("      ok, %s\n", elapsed(start))
	}
	return passed, failed
}

func checkRules(_ context.Context, r *repo) error {
	found, err := house.Check(os.DirFS(r.dir))
	if err != nil {
		return err
	}
	var errs []error
	for _, rule := range house.Rules() {
		if fs := found[rule.Name]; len(fs) > 0 {
			for _, f := range fs {
				errs = append(errs, fmt.Errorf("%s: %s", rule.Name, f))
			}
		}
	}
	return errors.Join(errs...)
}

func checkFormat(_ context.Context, r *repo) error {
	var errs []error
	for _, f := range r.tree.Files {
		src, err := os.ReadFile(r.path(f.Path))
		if err != nil {
			return err
		}
		want, err := format.Source(src)
		if err == nil && string(want) != string(src) {
			err = errors.New("is not formatted: run gofmt -w on it")
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.Path, err))
		}
	}
	return errors.Join(errs...)
}

// checkModules does what a consumer's build would: each module with the
// versions of its own go.mod, not the workspace's.
func checkModules(ctx context.Context, r *repo) error {
	var errs []error
	mods := r.modules()
	for i, m := range mods {
		dir := r.path(m.Dir)
		fmt.Printf("      (%d/%d) %s\n", i+1, len(mods), m.Dir)
		for _, s := range []step{
			goStep(dir, "mod", "tidy", "-diff"),
			goStep(dir, "build", "-o", os.DevNull, "./..."), // a lone program would be written here
			goStep(dir, "vet", "./..."),
		} {
			if out, err := s.alone().run(ctx); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w\n%s", m.Dir, err, strings.TrimSpace(out)))
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
		}
	}
	return errors.Join(errs...)
}

// checkStatic builds the linter at the version that tools/go.mod pins and runs
// it over every module.
func checkStatic(ctx context.Context, r *repo) error {
	bin := r.path("bin", "staticcheck")
	build := goStep(r.path("tools"), "build", "-o", bin, "honnef.co/go/tools/cmd/staticcheck").alone()
	if out, err := build.run(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	var errs []error
	for _, m := range r.modules() {
		s := step{dir: r.path(m.Dir), args: []string{bin, "./..."}}
		if out, err := s.run(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s:\n%s", m.Dir, strings.TrimSpace(out)))
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return errors.Join(errs...)
}

// copyTo copies the files that are, or would be, under version control to dir
// and returns their names.
func (r *repo) copyTo(ctx context.Context, dir string) (names []string, err error) {
	out, err := step{dir: r.dir, args: []string{"git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"}}.run(ctx)
	if err != nil {
		return nil, err
	}
	for name := range strings.SplitSeq(strings.TrimRight(out, "\x00"), "\x00") {
		b, err := os.ReadFile(r.path(name))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted and not yet committed
		}
		if err != nil {
			return nil, err
		}
		to := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return nil, err
		}
		if err := os.WriteFile(to, b, 0o644); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, nil
}
