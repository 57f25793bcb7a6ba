package house

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// The layers of the house. Code imports its own layer and those below.
const (
	layerDriver = iota // driver, codec, internal: know nothing of what is above
	layerCore          // package dovetail
	layerPart          // what is built on it: outbox, inbox, transports, stores…
	layerTop           // cmd, examples, bench, tools: put the parts together
)

var layerNames = [...]string{"driver", "dovetail", "satellites", "cmd, examples and bench"}

func layer(dir string) int {
	first, _, _ := strings.Cut(dir, "/")
	switch first {
	case "driver", "codec", "internal":
		return layerDriver
	case ".":
		return layerCore
	case "cmd", "examples", "bench", "tools":
		return layerTop
	}
	return layerPart
}

func oneWay(t *Tree) (found []Finding) {
	for _, f := range t.Files {
		if f.Test {
			continue
		}
		for _, imp := range f.imports() {
			m, dir := t.ours(imp.path)
			if m == nil {
				continue
			}
			if from, to := layer(f.Dir()), layer(dir); to > from {
				found = append(found, Finding{f.Path, t.line(imp.pos),
					fmt.Sprintf("imports %s: %s may not know of %s", imp.path, layerNames[from], layerNames[to])})
			}
		}
	}
	return found
}

func rootAlone(t *Tree) (found []Finding) {
	for p := range t.Root.Requires {
		found = append(found, Finding{"go.mod", t.Root.Line[p], "requires " + p + ": the root module requires nothing"})
	}
	for _, f := range t.Files {
		if f.Module != t.Root {
			continue
		}
		for _, imp := range f.imports() {
			switch m, _ := t.ours(imp.path); {
			case m == t.Root, m == nil && standard(imp.path):
			case m != nil:
				found = append(found, Finding{f.Path, t.line(imp.pos),
					fmt.Sprintf("imports %s, which is in module %s: the workspace hides it, a consumer's build would not", imp.path, m.Path)})
			default:
				found = append(found, Finding{f.Path, t.line(imp.pos),
					fmt.Sprintf("imports %s: what needs third-party code gets a go.mod of its own", imp.path)})
			}
		}
	}
	return found
}

// satellites checks the modules that are built on the root. Test files may
// import several modules and the root's internal packages.
func satellites(t *Tree) (found []Finding) {
	for _, f := range t.Files {
		if f.Module == t.Root || f.Test {
			continue
		}
		for _, imp := range f.imports() {
			m, dir := t.ours(imp.path)
			switch {
			case m == nil || m == f.Module:
			case m == t.Root:
				if within(dir, "internal") {
					found = append(found, Finding{f.Path, t.line(imp.pos),
						"imports " + imp.path + ": the root's internal packages are the root module's own"})
				}
			case layer(f.Dir()) == layerTop:
			case within(f.Module.Dir, m.Dir): // nested in it: docs/decisions
			default:
				found = append(found, Finding{f.Path, t.line(imp.pos),
					fmt.Sprintf("imports %s: a satellite knows no other satellite; put what both need into the root, or the meeting into cmd", imp.path)})
			}
		}
	}
	return found
}

func modulesWhereNeeded(t *Tree) (found []Finding) {
	for _, m := range t.Modules {
		if m == t.Root || !m.InWork {
			continue
		}
		code, foreign := false, false
		for _, f := range t.Files {
			if f.Module != m || f.Test {
				continue
			}
			code = true
			for _, imp := range f.imports() {
				im, _ := t.ours(imp.path)
				// Another module of ours is there for its third-party code.
				if im == nil && !standard(imp.path) || im != nil && im != m && im != t.Root {
					foreign = true
				}
			}
		}
		if code && !foreign {
			found = append(found, Finding{path.Join(m.Dir, "go.mod"), 0,
				"no code of this module imports third-party code: it belongs to the module around it"})
		}
	}
	return found
}

func replaced(t *Tree) (found []Finding) {
	for _, m := range t.Modules {
		if m == t.Root {
			continue
		}
		mod := path.Join(m.Dir, "go.mod")
		for _, s := range t.reached(m) {
			want := relative(m.Dir, s.Dir)
			if got := m.Replaces[s.Path]; got != want {
				found = append(found, Finding{mod, m.Line[s.Path],
					fmt.Sprintf("reaches %s: want \"replace %s => %s\", have %q", s.Path, s.Path, want, got)})
			}
			if _, ok := m.Requires[s.Path]; !ok {
				found = append(found, Finding{mod, 0, "reaches " + s.Path + " and does not require it: run GOWORK=off go mod tidy there"})
			}
		}
	}
	return found
}

// reached returns the modules of this repository that building and testing m
// needs: what its files import, and what the code of those imports in turn.
func (t *Tree) reached(m *Module) (all []*Module) {
	seen := map[*Module]bool{m: true}
	var visit func(from *Module, tests bool)
	visit = func(from *Module, tests bool) {
		for _, f := range t.Files {
			if f.Module != from || f.Test && !tests {
				continue
			}
			for _, imp := range f.imports() {
				if to, _ := t.ours(imp.path); to != nil && !seen[to] {
					seen[to] = true
					all = append(all, to)
					visit(to, false)
				}
			}
		}
	}
	visit(m, true)
	for p := range m.Requires {
		if to, _ := t.ours(p); to != nil && to.Path == p && !seen[to] {
			seen[to] = true
			all = append(all, to)
		}
	}
	slices.SortFunc(all, func(a, b *Module) int { return strings.Compare(a.Path, b.Path) })
	return all
}

// relative returns the way from one directory to another as go.mod wants it,
// beginning with "./" or "..".
func relative(from, to string) string {
	up := ".."
	for dir := path.Dir(from); dir != "."; dir = path.Dir(dir) {
		if within(to, dir) {
			break
		}
		up += "/.."
	}
	base := path.Clean(path.Join(from, up))
	if within(to, from) && to != from {
		return "./" + strings.TrimPrefix(to, from+"/")
	}
	if to == base {
		return up
	}
	return up + "/" + strings.TrimPrefix(to, strings.TrimPrefix(base+"/", "./"))
}

// outside are the modules that are no part of the workspace, which has one
// version selection for all: build tools, and peers that are measured.
func outside(dir string) bool {
	return within(dir, "tools") || within(dir, "bench/peers") || strings.Contains(dir, "interop")
}

func inWorkspace(t *Tree) (found []Finding) {
	for _, m := range t.Modules {
		mod := path.Join(m.Dir, "go.mod")
		want := t.Root.Path
		if m.Dir != "." {
			want += "/" + m.Dir
		}
		switch {
		case m.Path != want:
			found = append(found, Finding{mod, 1, fmt.Sprintf("is module %s: its directory says %s", m.Path, want)})
		case outside(m.Dir) && m.InWork:
			found = append(found, Finding{mod, 0, "is in go.work, where its versions would weigh on the library"})
		case !outside(m.Dir) && !m.InWork:
			found = append(found, Finding{mod, 0, "is not in go.work: run go work use ./" + m.Dir})
		case !outside(m.Dir) && m.Go != t.WorkGo:
			found = append(found, Finding{mod, 0, fmt.Sprintf("is for go %s and go.work for %s: keep one version", m.Go, t.WorkGo)})
		}
	}
	return found
}
