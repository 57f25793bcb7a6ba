package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/printer"
	"go/token"
	"maps"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/dovetail-go/dovetail/internal/house"
)

// apiFile lists what others can use: a change of it is a change of the public API.
const apiFile = "api.txt"

func runAPI(_ context.Context, r *repo, _ []string) error {
	return os.WriteFile(r.path(apiFile), []byte(publicAPI(r.tree)), 0o644)
}

// checkAPI compares the public API with what is written down.
func checkAPI(_ context.Context, r *repo) error {
	old, err := os.ReadFile(r.path(apiFile))
	if err != nil {
		return err
	}
	was, is := strings.Split(string(old), "\n"), strings.Split(publicAPI(r.tree), "\n")
	var changes []string
	for _, line := range was {
		if !slices.Contains(is, line) {
			changes = append(changes, "- "+line)
		}
	}
	for _, line := range is {
		if !slices.Contains(was, line) {
			changes = append(changes, "+ "+line)
		}
	}
	if len(changes) == 0 {
		return nil
	}
	return errors.New("the public API is another than in " + apiFile + ":\n" + strings.Join(changes, "\n") +
		"\nif that is meant, say in CHANGELOG.md how to move, and run: go run ./internal/house/dev api")
}

// publicAPI lists, by package, what is exported: a line for each constant, variable,
// function, type, field and method, sorted.
func publicAPI(t *house.Tree) string {
	packages := map[string]map[string]bool{} // lines by directory
	for _, f := range t.Files {
		if f.Test || f.AST == nil || f.AST.Name.Name == "main" || !isPublic(f.Dir()) {
			continue
		}
		lines := packages[f.Dir()]
		if lines == nil {
			lines = map[string]bool{}
			packages[f.Dir()] = lines
		}
		for _, d := range f.AST.Decls {
			for _, line := range exported(d) {
				lines[line] = true
			}
		}
	}
	var out strings.Builder
	for _, dir := range slices.Sorted(maps.Keys(packages)) {
		name := path.Join(t.Root.Path, dir)
		for _, line := range slices.Sorted(maps.Keys(packages[dir])) {
			fmt.Fprintf(&out, "%s: %s\n", name, line)
		}
	}
	return out.String()
}

// isPublic reports whether a directory has a package for others.
func isPublic(dir string) bool {
	for part := range strings.SplitSeq(dir, "/") {
		switch part {
		case "internal", "testdata", "examples", "bench", "tools", "cmd":
			return false
		}
	}
	return true
}

// exported are the lines of a declaration.
func exported(d ast.Decl) (lines []string) {
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Name.IsExported() && (d.Recv == nil || ast.IsExported(receiver(d.Recv.List[0].Type))) {
			lines = append(lines, source(&ast.FuncDecl{Recv: d.Recv, Name: d.Name, Type: d.Type}))
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.ValueSpec:
				for _, n := range s.Names {
					if n.IsExported() {
						lines = append(lines, strings.TrimSpace(d.Tok.String()+" "+n.Name+" "+source(s.Type)))
					}
				}
			case *ast.TypeSpec:
				if s.Name.IsExported() {
					lines = append(lines, typeLines(s)...)
				}
			}
		}
	}
	return lines
}

// typeLines are the lines of a type: its own, and one for each exported field or
// method.
func typeLines(s *ast.TypeSpec) (lines []string) {
	name := s.Name.Name
	members := func(what string, list *ast.FieldList) {
		lines = append(lines, "type "+name+params(s.TypeParams)+" "+what)
		for _, f := range list.List {
			if len(f.Names) == 0 {
				lines = append(lines, what+" "+name+" has "+source(f.Type))
			}
			for _, n := range f.Names {
				if n.IsExported() {
					lines = append(lines, what+" "+name+" has "+n.Name+" "+source(f.Type))
				}
			}
		}
	}
	switch t := s.Type.(type) {
	case *ast.StructType:
		members("struct", t.Fields)
	case *ast.InterfaceType:
		members("interface", t.Methods)
	default:
		is := " "
		if s.Assign != token.NoPos {
			is = " = "
		}
		lines = append(lines, "type "+name+params(s.TypeParams)+is+source(s.Type))
	}
	return lines
}

// params are the parameters of a type, as in "[K comparable, V any]".
func params(list *ast.FieldList) string {
	if list == nil {
		return ""
	}
	var all []string
	for _, f := range list.List {
		for _, n := range f.Names {
			all = append(all, n.Name+" "+source(f.Type))
		}
	}
	return "[" + strings.Join(all, ", ") + "]"
}

// receiver is the name of a receiver's type.
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	case *ast.Ident:
		return e.Name
	}
	return ""
}

// source prints a node on one line.
func source(n ast.Node) string {
	if e, ok := n.(ast.Expr); n == nil || ok && e == nil {
		return ""
	}
	var b bytes.Buffer
	if err := printer.Fprint(&b, token.NewFileSet(), n); err != nil {
		return err.Error()
	}
	return strings.Join(strings.Fields(b.String()), " ")
}
