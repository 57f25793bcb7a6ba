package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
)

// maxUsage is how many lines of code a document may show that are no copy.
const maxUsage = 8

// usage checks a few lines that show how something is used: that they are Go,
// that what they import is there, and that the names which they use of this
// repository's packages exist. What they do with them nothing checks, hence
// only a few lines.
func (t *Tree) usage(code string) error {
	if n := strings.Count(code, "\n"); n > maxUsage {
		return fmt.Errorf("%d lines of Go that nothing compiles: take them from a test or an example and name that in a \"from\" comment", n)
	}
	var imports, body strings.Builder
	for s := range strings.Lines(code) {
		if strings.HasPrefix(s, "import ") {
			imports.WriteString(s)
		} else {
			body.WriteString(s)
		}
	}
	f, err := parser.ParseFile(token.NewFileSet(), "", "package p\n"+imports.String()+"func _() {\n"+body.String()+"}\n", 0)
	if err != nil {
		return fmt.Errorf("is no Go: %w", err)
	}
	exported := t.exported()
	for _, imp := range (&File{AST: f}).imports() {
		if m, dir := t.ours(imp.path); m != nil && exported[dir] == nil {
			return fmt.Errorf("imports %s, which is not there", imp.path)
		}
	}
	byName := map[string]map[string]bool{} // package name → exported names, of all packages of that name
	for _, p := range exported {
		if byName[p.name] == nil {
			byName[p.name] = map[string]bool{}
		}
		for name := range p.names {
			byName[p.name][name] = true
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		sel, ok := n.(*ast.SelectorExpr)
		if !ok || err != nil {
			return err == nil
		}
		x, ok := sel.X.(*ast.Ident)
		if ok && byName[x.Name] != nil && !byName[x.Name][sel.Sel.Name] {
			err = fmt.Errorf("uses %s.%s, which is not there", x.Name, sel.Sel.Name)
		}
		return true
	})
	return err
}

// A scope is the exported names of a package.
type scope struct {
	name  string
	names map[string]bool
}

// exported returns the packages that can be imported, by directory.
func (t *Tree) exported() map[string]*scope {
	all := map[string]*scope{}
	for _, f := range t.Files {
		if f.AST == nil || f.Test || f.AST.Name.Name == "main" {
			continue
		}
		p := all[f.Dir()]
		if p == nil {
			p = &scope{f.AST.Name.Name, map[string]bool{}}
			all[f.Dir()] = p
		}
		for _, d := range f.AST.Decls {
			for _, name := range declared(d) {
				if ast.IsExported(name) {
					p.names[name] = true
				}
			}
		}
	}
	return all
}

// declared returns the names that a top-level declaration declares; those of
// methods as "Type.Method".
func declared(d ast.Decl) (names []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		recv, _ := receiver(d)
		names = append(names, recv+d.Name.Name)
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				names = append(names, s.Name.Name)
			case *ast.ValueSpec:
				for _, n := range s.Names {
					names = append(names, n.Name)
				}
			}
		}
	}
	return names
}
