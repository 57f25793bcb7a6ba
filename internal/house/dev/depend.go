package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// held has the dependencies that stay behind their newest version, and why.
var held = map[string]string{
	"github.com/antithesishq/antithesis-sdk-go": "nats-server names the variant that does nothing",
	"modernc.org/libc":                          "modernc.org/sqlite names the one version that it works with",
}

// A dependency is a module that others publish.
type dependency struct {
	Path, Version, Dir string
	Update             *dependency
	Error              *struct{ Err string }
}

// checkBehind names the dependencies that have a newer version. It does not
// fail for one: a release of somebody else would break the build.
func checkBehind(ctx context.Context, r *repo) error {
	behind := map[string]string{}   // by path
	unknown := map[string]bool{}    // no version can be asked for
	versions := map[string]string{} // path → version, which is one for all modules
	var errs []error
	for _, m := range r.modules() {
		mine := foreign(m.Requires)
		if len(mine) == 0 {
			continue
		}
		s := goStep(r.path(m.Dir), append([]string{"list", "-m", "-u", "-e", "-json"}, mine...)...)
		all, err := jsonStep[dependency](ctx, s.alone())
		if err != nil {
			return err
		}
		for _, d := range all {
			switch have := versions[d.Path]; {
			case have == "":
				versions[d.Path] = d.Version
			case have != d.Version:
				errs = append(errs, fmt.Errorf("%s has %s at %s, another module has it at %s: give both the newer one", m.Dir, d.Path, d.Version, have))
			}
			switch {
			case d.Update != nil:
				behind[d.Path] = d.Version + " → " + d.Update.Version
			case d.Error != nil:
				unknown[d.Path] = true
			}
		}
	}
	for _, path := range slices.Sorted(maps.Keys(behind)) {
		why := ""
		if held[path] != "" {
			why = ", held: " + held[path]
		}
		fmt.Printf("      behind: %s %s%s\n", path, behind[path], why)
	}
	for _, path := range slices.Sorted(maps.Keys(unknown)) {
		fmt.Printf("      not known: %s %s, its versions could not be asked for\n", path, versions[path])
	}
	fmt.Printf("      %d dependencies: %d behind, %d not known\n", len(versions), len(behind), len(unknown))
	return errors.Join(errs...)
}

// foreign returns the paths of requires that others publish, sorted.
func foreign(requires map[string]string) (paths []string) {
	for path := range requires {
		if !ours(path) {
			paths = append(paths, path)
		}
	}
	slices.Sort(paths)
	return paths
}

func ours(path string) bool {
	const root = "github.com/dovetail-go/dovetail"
	return path == root || strings.HasPrefix(path, root+"/")
}

// A finding is a vulnerability that govulncheck found on the way to one frame
// of code. Without a function the code does not call it.
type finding struct {
	OSV   string `json:"osv"`
	Fixed string `json:"fixed_version"`
	Trace []struct{ Module, Version, Package, Function string }
}

// vulndb is the module that the database of vulnerabilities is published in.
const vulndb = "golang.org/x/vulndb"

// checkVulnerable names the known vulnerabilities of what is linked. One of a
// dependency that our code calls fails the check. Those of the standard
// library are those of the Go that builds: they are named, and the remedy is a
// newer Go.
func checkVulnerable(ctx context.Context, r *repo) error {
	bin := r.path("bin", "govulncheck")
	build := goStep(r.path("tools"), "build", "-o", bin, "golang.org/x/vuln/cmd/govulncheck").alone()
	if out, err := build.run(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	db, err := vulnerabilities(ctx, r)
	if err != nil {
		fmt.Printf("      not checked: the database of vulnerabilities could not be had: %v\n", err)
		return ctx.Err()
	}
	args := []string{bin, "-format", "json", "-db", "file://" + filepath.ToSlash(db)}
	for _, m := range r.modules() {
		if top, _, _ := strings.Cut(m.Dir, "/"); top == "bench" || top == "examples" {
			continue // cmd/dovetail links what they have
		}
		args = append(args, "./"+strings.TrimPrefix(m.Dir+"/...", "./"))
	}
	all, err := jsonStep[struct{ Finding *finding }](ctx, step{dir: r.dir, args: args})
	if err != nil {
		return err
	}
	called, fixed := map[string]string{}, map[string]string{} // by "id in module", of dependencies; of the standard library
	for _, one := range all {
		f := one.Finding
		if f == nil || len(f.Trace) == 0 || f.Trace[0].Function == "" {
			continue
		}
		at := f.Trace[0]
		if at.Module == "stdlib" {
			fixed[f.OSV] = f.Fixed
			continue
		}
		called[f.OSV+" in "+at.Module+" "+at.Version] = f.Fixed
	}
	if len(fixed) > 0 {
		newest := slices.MaxFunc(slices.Collect(maps.Values(fixed)), compareNumbers)
		fmt.Printf("      the Go that builds here has %d known vulnerabilities that are called: build with Go %s or later (%s)\n",
			len(fixed), strings.TrimPrefix(newest, "v"), strings.Join(slices.Sorted(maps.Keys(fixed)), ", "))
	}
	var errs []error
	for _, what := range slices.Sorted(maps.Keys(called)) {
		errs = append(errs, fmt.Errorf("%s: fixed in %s", what, called[what]))
	}
	return errors.Join(errs...)
}

// vulnerabilities returns the directory of the newest published entries.
func vulnerabilities(ctx context.Context, r *repo) (string, error) {
	all, err := jsonStep[dependency](ctx, goStep(r.path("tools"), "mod", "download", "-json", vulndb+"@latest").alone())
	if err != nil {
		return "", err
	}
	if len(all) == 0 {
		return "", errors.New("go mod download said nothing")
	}
	fmt.Printf("      the database is %s %s\n", vulndb, all[0].Version)
	dir := filepath.Join(all[0].Dir, "data", "osv")
	_, err = os.Stat(dir)
	return dir, err
}

// compareNumbers compares versions as v1.26.10.
func compareNumbers(a, b string) int {
	numbers := func(v string) (n [3]int) {
		fmt.Sscanf(v, "v%d.%d.%d", &n[0], &n[1], &n[2])
		return n
	}
	x, y := numbers(a), numbers(b)
	return slices.Compare(x[:], y[:])
}

// jsonStep runs s and reads its standard output as one JSON value after
// another.
func jsonStep[T any](ctx context.Context, s step) ([]T, error) {
	defer tick(func() string {
		return filepath.Base(s.args[0]) + " " + strings.Join(s.args[1:min(3, len(s.args))], " ")
	})()
	out, err := s.command(ctx).Output()
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		return nil, fmt.Errorf("%s: %w\n%s", s, err, strings.TrimSpace(string(failed.Stderr)))
	}
	if err != nil {
		return nil, err
	}
	var all []T
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var one T
		switch err := dec.Decode(&one); {
		case err == io.EOF:
			return all, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", s, err)
		}
		all = append(all, one)
	}
}
