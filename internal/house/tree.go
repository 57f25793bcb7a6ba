package house

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A Tree is the repository as the rules see it. Its slices are sorted by path.
type Tree struct {
	FS       fs.FS
	Root     *Module
	Modules  []*Module // the root first
	Files    []*File
	Markdown []string // paths
	WorkGo   string   // the language version of go.work

	fset *token.FileSet
}

// A Module is a directory with a go.mod.
type Module struct {
	ModFile
	Dir    string // "." for the root
	InWork bool   // go.work uses it
}

// A File is one Go source file.
type File struct {
	Path      string
	Module    *Module
	Test      bool // its name ends in _test.go
	Generated bool
	Lines     int
	AST       *ast.File // nil where it does not parse
	Err       error     // why it does not

	source []byte
}

// Dir returns the directory of f.
func (f *File) Dir() string { return path.Dir(f.Path) }

// An importSpec is one import of a file.
type importSpec struct {
	path string
	pos  token.Pos
}

func (f *File) imports() (all []importSpec) {
	if f.AST == nil {
		return nil
	}
	for _, s := range f.AST.Imports {
		if p, err := strconv.Unquote(s.Path.Value); err == nil {
			all = append(all, importSpec{p, s.Pos()})
		}
	}
	return all
}

// Load reads the repository in fsys. Files that do not parse are part of the
// tree; a go.mod or go.work that cannot be read is an error.
func Load(fsys fs.FS) (*Tree, error) {
	t := &Tree{FS: fsys, fset: token.NewFileSet()}
	var sources []string
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		switch {
		case d.IsDir():
			if p != "." && (strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") ||
				slices.Contains([]string{"testdata", "node_modules", "bin", "dist"}, name)) {
				return fs.SkipDir
			}
		case name == "go.mod":
			text, err := fs.ReadFile(fsys, p)
			if err != nil {
				return err
			}
			m, err := ParseMod(string(text))
			if err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
			t.Modules = append(t.Modules, &Module{ModFile: m, Dir: path.Dir(p)})
		case strings.HasSuffix(name, ".go"):
			sources = append(sources, p)
		case strings.HasSuffix(name, ".md"):
			t.Markdown = append(t.Markdown, p)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(t.Modules, func(a, b *Module) int { return strings.Compare(a.Dir, b.Dir) })
	if len(t.Modules) == 0 || t.Modules[0].Dir != "." {
		return nil, fmt.Errorf("no go.mod at the root")
	}
	t.Root = t.Modules[0]
	if err := t.loadWork(); err != nil {
		return nil, err
	}
	for _, p := range sources {
		if err := t.loadFile(p); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *Tree) loadWork() error {
	text, err := fs.ReadFile(t.FS, "go.work")
	if err != nil {
		return err
	}
	version, dirs, err := parseWork(string(text))
	if err != nil {
		return fmt.Errorf("go.work: %w", err)
	}
	t.WorkGo = version
	for _, m := range t.Modules {
		m.InWork = slices.Contains(dirs, m.Dir)
	}
	return nil
}

func (t *Tree) loadFile(p string) error {
	src, err := fs.ReadFile(t.FS, p)
	if err != nil {
		return err
	}
	f := &File{
		Path:   p,
		Module: t.moduleOf(path.Dir(p)),
		Test:   strings.HasSuffix(p, "_test.go"),
		Lines:  bytes.Count(src, []byte("\n")),
		source: src,
	}
	f.AST, f.Err = parser.ParseFile(t.fset, p, src, parser.ParseComments|parser.SkipObjectResolution)
	if f.Err != nil {
		f.AST = nil
	} else {
		f.Generated = ast.IsGenerated(f.AST)
	}
	t.Files = append(t.Files, f)
	return nil
}

// moduleOf returns the innermost module that dir belongs to.
func (t *Tree) moduleOf(dir string) *Module {
	best := t.Root
	for _, m := range t.Modules {
		if within(dir, m.Dir) && len(m.Dir) > len(best.Dir) {
			best = m
		}
	}
	return best
}

// ours returns the module and the directory of an import path of this
// repository, and nil for others.
func (t *Tree) ours(importPath string) (m *Module, dir string) {
	if !within(importPath, t.Root.Path) {
		return nil, ""
	}
	dir = cleanDir(strings.TrimPrefix(strings.TrimPrefix(importPath, t.Root.Path), "/"))
	return t.moduleOf(dir), dir
}

func (t *Tree) line(pos token.Pos) int { return t.fset.Position(pos).Line }

// within reports whether the slash-separated path p is dir or lies below it.
func within(p, dir string) bool {
	return dir == "." || p == dir || strings.HasPrefix(p, dir+"/")
}

func cleanDir(p string) string { return path.Clean(strings.TrimPrefix(p, "./")) }

// standard reports whether an import path is the standard library's: those
// have no dot in their first element.
func standard(importPath string) bool {
	first, _, _ := strings.Cut(importPath, "/")
	return !strings.Contains(first, ".")
}

func unparsed(t *Tree) (found []Finding) {
	for _, f := range t.Files {
		if f.Err != nil {
			found = append(found, Finding{f.Path, 0, f.Err.Error()})
		}
	}
	return found
}
