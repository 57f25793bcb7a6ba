package main

import (
	"context"
	"flag"
	"fmt"
	"go/ast"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/dovetail-go/dovetail/internal/house"
)

// program is what a release must let people install.
const program = "cmd/dovetail"

var semver = regexp.MustCompile(`^v[01]\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)

// runRelease does to a copy of the repository what a release does, and uses the
// result as its users will, through a module proxy made of files. With -tag it
// then makes the commit and the tags.
func runRelease(ctx context.Context, r *repo, args []string) error {
	flags := flag.NewFlagSet("release", flag.ContinueOnError)
	version := flags.String("version", "v0.0.1-rehearsal", "the version that all modules get")
	tag := flags.Bool("tag", false, "make the commit and the tags, if all went well")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if !semver.MatchString(*version) {
		return fmt.Errorf("version %q: want v0.x.y or v1.x.y; from v2 on, module paths would change", *version)
	}
	if *tag {
		if err := r.releasable(ctx, *version); err != nil {
			return err
		}
	}
	tmp, err := os.MkdirTemp("", "dovetail-release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	rel := &release{repo: r, version: *version, tmp: tmp, src: filepath.Join(tmp, "src"), modules: r.ordered()}
	if err := rel.rehearse(ctx); err != nil {
		return err
	}
	if *tag {
		return rel.tag(ctx)
	}
	fmt.Printf("\nall well; a release would tag:\n")
	for _, m := range rel.modules {
		fmt.Println("  " + rel.tagOf(m))
	}
	fmt.Println("with make release VERSION=v1.2.3 TAG=1")
	return nil
}

// A release is one attempt at a version.
type release struct {
	*repo
	version string
	tmp     string          // everything it writes
	src     string          // the copy with real versions
	modules []*house.Module // each after those that it requires
}

// ordered returns the modules of the workspace that have code, each after the
// siblings that it requires.
func (r *repo) ordered() (all []*house.Module) {
	byPath := map[string]*house.Module{}
	for _, m := range r.modules() {
		byPath[m.Path] = m
	}
	var visit func(m *house.Module)
	visit = func(m *house.Module) {
		if slices.Contains(all, m) {
			return
		}
		for _, p := range slices.Sorted(maps.Keys(m.Requires)) {
			if need := byPath[p]; need != nil && need != m {
				visit(need)
			}
		}
		all = append(all, m)
	}
	for _, m := range r.modules() {
		visit(m)
	}
	return all
}

func (rel *release) tagOf(m *house.Module) string {
	if m.Dir == "." {
		return rel.version
	}
	return m.Dir + "/" + rel.version
}

func (rel *release) rehearse(ctx context.Context) error {
	if _, err := rel.copyTo(ctx, rel.src); err != nil {
		return err
	}
	p := newProxy(filepath.Join(rel.tmp, "proxy"), rel.tree.Root.Path)
	env, err := p.env(ctx, rel.dir, rel.tmp)
	if err != nil {
		return err
	}
	for i, m := range rel.modules {
		fmt.Printf("[%d/%d] %s@%s\n", i+1, len(rel.modules), m.Path, rel.version)
		if err := rel.pin(ctx, m, env); err != nil {
			return err
		}
		if err := p.add(rel.src, m.Dir, m.Path, rel.version); err != nil {
			return err
		}
	}
	if err := rel.consume(ctx, env); err != nil {
		return err
	}
	return rel.install(ctx, env)
}

// pin gives a module's go.mod real versions of its siblings.
func (rel *release) pin(ctx context.Context, m *house.Module, env []string) error {
	edit := []string{"mod", "edit"}
	for _, s := range rel.modules {
		if _, ok := m.Requires[s.Path]; ok {
			edit = append(edit, "-require="+s.Path+"@"+rel.version)
		}
		if _, ok := m.Replaces[s.Path]; ok {
			edit = append(edit, "-dropreplace="+s.Path)
		}
	}
	dir := filepath.Join(rel.src, m.Dir)
	steps := []step{goStep(dir, "mod", "tidy")}
	if len(edit) > 2 {
		steps = append([]step{goStep(dir, edit...)}, steps...)
	}
	for _, s := range steps {
		s.env = env
		if out, err := s.run(ctx); err != nil {
			return fmt.Errorf("%s: %w\n%s", m.Dir, err, out)
		}
	}
	return nil
}

// consume builds and runs a program elsewhere that imports every package that
// can be imported.
func (rel *release) consume(ctx context.Context, env []string) error {
	dir := filepath.Join(rel.tmp, "consumer")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	mods := map[string]bool{}
	packages := map[string]bool{}
	for _, f := range rel.tree.Files {
		if f.Test || f.AST == nil || !slices.Contains(rel.modules, f.Module) || !importable(f.AST, f.Path) {
			continue
		}
		mods[f.Module.Path+"@"+rel.version] = true
		packages[path.Join(rel.tree.Root.Path, path.Dir(f.Path))] = true
	}
	var main strings.Builder
	main.WriteString("package main\n\nimport (\n")
	for _, p := range slices.Sorted(maps.Keys(packages)) {
		fmt.Fprintf(&main, "\t_ %q\n", p)
	}
	main.WriteString(")\n\nfunc main() { println(\"consumed\") }\n")
	fmt.Printf("a consumer imports %d packages of %d modules\n", len(packages), len(mods))
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(main.String()), 0o644); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte("module example.com/consumer\n\ngo "+rel.tree.Root.Go+"\n"), 0o644); err != nil {
		return err
	}
	for _, s := range []step{
		goStep(dir, append([]string{"get"}, slices.Sorted(maps.Keys(mods))...)...),
		goStep(dir, "mod", "tidy"),
		goStep(dir, "run", "."),
	} {
		s.env = env
		if out, err := s.run(ctx); err != nil {
			return fmt.Errorf("a consumer's %w\n%s", err, out)
		}
	}
	return nil
}

// importable reports whether a file's package can be imported by others.
func importable(f *ast.File, name string) bool {
	return f.Name.Name != "main" && !slices.Contains(strings.Split(name, "/"), "internal")
}

// install does what the README tells people to do.
func (rel *release) install(ctx context.Context, env []string) error {
	if !slices.ContainsFunc(rel.modules, func(m *house.Module) bool { return m.Dir == program }) {
		fmt.Printf("%s has no code yet: not installed\n", program)
		return nil
	}
	fmt.Printf("go install %s/%s@%s\n", rel.tree.Root.Path, program, rel.version)
	bin := filepath.Join(rel.tmp, "bin")
	s := goStep(rel.tmp, "install", rel.tree.Root.Path+"/"+program+"@"+rel.version)
	s.env = append(slices.Clone(env), "GOBIN="+bin)
	if out, err := s.run(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	help := step{dir: rel.tmp, args: []string{filepath.Join(bin, path.Base(program)), "--help"}}
	if out, err := help.run(ctx); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// releasable reports what stands in the way of tags.
func (r *repo) releasable(ctx context.Context, version string) error {
	out, err := step{dir: r.dir, args: []string{"git", "status", "--porcelain"}}.run(ctx)
	if err != nil {
		return err
	}
	if out != "" {
		return fmt.Errorf("there are changes that are not committed:\n%s", out)
	}
	if out, err = (step{dir: r.dir, args: []string{"git", "tag", "--list", version}}).run(ctx); err != nil || out != "" {
		return fmt.Errorf("tag %s exists already", version)
	}
	log, err := os.ReadFile(r.path("CHANGELOG.md"))
	if err != nil {
		return err
	}
	if !strings.Contains(string(log), "\n## ["+strings.TrimPrefix(version, "v")+"]") {
		return fmt.Errorf("CHANGELOG.md has no section [%s]", strings.TrimPrefix(version, "v"))
	}
	return nil
}

// tag commits the copy's go.mod and go.sum files on top of HEAD, beside the
// branch, and tags that commit once for each module.
func (rel *release) tag(ctx context.Context) error {
	clone := filepath.Join(rel.tmp, "clone")
	git := func(dir string, args ...string) error {
		if out, err := (step{dir: dir, args: append([]string{"git"}, args...)}).run(ctx); err != nil {
			return fmt.Errorf("%w\n%s", err, out)
		}
		return nil
	}
	if err := git(rel.tmp, "clone", "-q", rel.dir, clone); err != nil {
		return err
	}
	for _, m := range rel.modules {
		for _, name := range []string{"go.mod", "go.sum"} {
			b, err := os.ReadFile(filepath.Join(rel.src, m.Dir, name))
			if os.IsNotExist(err) {
				continue
			}
			if err != nil {
				return err
			}
			if err := os.WriteFile(filepath.Join(clone, m.Dir, name), b, 0o644); err != nil {
				return err
			}
		}
	}
	if err := git(clone, "add", "-A"); err != nil {
		return err
	}
	if err := git(clone, "commit", "-q", "-m", "Release "+rel.version); err != nil {
		return err
	}
	for _, m := range rel.modules {
		if err := git(clone, "tag", "-a", "-m", m.Path+" "+rel.version, rel.tagOf(m)); err != nil {
			return err
		}
	}
	if err := git(rel.dir, "fetch", "-q", clone, "refs/tags/*:refs/tags/*"); err != nil {
		return err
	}
	fmt.Printf("\ntagged %d modules; publish with git push --tags\n", len(rel.modules))
	return nil
}
