package house

import (
	"fmt"
	"go/ast"
	"strconv"
	"strings"
)

// Where the crash points are declared, and where those that stores pass get the
// names by which stores know them.
const (
	pointsFile = "internal/crash/points.go"
	stepsFile  = "store/step.go"
)

// crashPoints checks that the registry of crash points is complete: each point
// is passed by the program, and its part is one whose points a test kills at,
// all of them. Those that stores pass are named by the test of each store that
// does.
func crashPoints(t *Tree) (found []Finding) {
	var points, steps *File
	for _, f := range t.Files {
		switch {
		case f.AST == nil:
		case f.Path == pointsFile:
			points = f
		case f.Path == stepsFile:
			steps = f
		}
	}
	if points == nil {
		return nil
	}
	uses := t.crashUses()
	alias := map[string]string{} // store.Written → crash.WriterWritten
	if steps != nil {
		for _, v := range values(steps.AST) {
			if lit, ok := v.value.(*ast.CompositeLit); ok && len(lit.Elts) == 1 {
				alias["store."+v.name.Name] = selector(lit.Elts[0])
			}
		}
	}
	passed := map[string]bool{}
	for name, files := range uses.passed {
		passed[name], passed[alias[name]] = true, true
		if alias[name] == "" {
			continue
		}
		for _, f := range files {
			if !uses.named[f.Module.Dir][name] {
				found = append(found, Finding{f.Path, 0, "passes " + name + ", which the Harness of no test beside it names: nothing is killed there"})
			}
		}
	}
	for _, v := range values(points.AST) {
		at := Finding{Path: pointsFile, Line: t.line(v.name.Pos())}
		call, ok := v.value.(*ast.CallExpr)
		if !ok || len(call.Args) != 4 {
			continue
		}
		if part, ok := call.Args[0].(*ast.Ident); ok && !uses.killed[part.Name] {
			at.Text = fmt.Sprintf("%s: no test kills at the points of crash.%s", v.name.Name, part.Name)
			found = append(found, at)
		}
		if !passed["crash."+v.name.Name] {
			at.Text = v.name.Name + " is never passed: call Pass where the step is taken, or take it out"
			found = append(found, at)
		}
		for _, arg := range call.Args[1:] {
			if lit, ok := arg.(*ast.BasicLit); ok {
				if text, err := strconv.Unquote(lit.Value); err == nil && strings.TrimSpace(text) == "" {
					at.Text = v.name.Name + " does not say its name, what has happened before it and what a crash there may do"
					found = append(found, at)
				}
			}
		}
	}
	return found
}

// crashUses is where points are used.
type crashUses struct {
	passed map[string][]*File         // by "crash.X" and "store.X"
	killed map[string]bool            // parts whose points tests take
	named  map[string]map[string]bool // what the tests of a module name
}

func (t *Tree) crashUses() crashUses {
	u := crashUses{map[string][]*File{}, map[string]bool{}, map[string]map[string]bool{}}
	for _, f := range t.Files {
		if f.AST == nil || f.Dir() == "internal/crash" || f.Dir() == "internal/house" {
			continue
		}
		testing := f.Test || f.Dir() == "store/storetest"
		ast.Inspect(f.AST, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.CallExpr:
				if sel, ok := n.Fun.(*ast.SelectorExpr); ok && sel.Sel.Name == "Pass" && !testing {
					if name := selector(sel.X); strings.HasPrefix(name, "crash.") || strings.HasPrefix(name, "store.") {
						u.passed[name] = append(u.passed[name], f)
					}
				}
			case *ast.SelectorExpr:
				if !testing {
					return true
				}
				name := selector(n)
				if part, ok := strings.CutPrefix(name, "crash."); ok {
					u.killed[part] = true
				}
				if f.Test {
					if u.named[f.Module.Dir] == nil {
						u.named[f.Module.Dir] = map[string]bool{}
					}
					u.named[f.Module.Dir][name] = true
				}
			}
			return true
		})
	}
	return u
}

// selector is "x.Y" for that expression, empty for others.
func selector(e ast.Expr) string {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok {
		return ""
	}
	x, ok := sel.X.(*ast.Ident)
	if !ok {
		return ""
	}
	return x.Name + "." + sel.Sel.Name
}

// A value is a variable that a file declares with its value.
type value struct {
	name  *ast.Ident
	value ast.Expr
}

func values(f *ast.File) (all []value) {
	for _, d := range f.Decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range gen.Specs {
			if vs, ok := s.(*ast.ValueSpec); ok && len(vs.Names) == len(vs.Values) {
				for i := range vs.Names {
					all = append(all, value{vs.Names[i], vs.Values[i]})
				}
			}
		}
	}
	return all
}
