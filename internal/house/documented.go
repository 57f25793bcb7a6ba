package house

import (
	"fmt"
	"go/ast"
	"strings"
)

// documented checks that every package has one package comment and every
// exported name of a package that can be imported a doc comment. A group of
// constants or variables may have one for all; methods that only fulfil an
// interface need one as well, since readers meet them on their own.
func documented(t *Tree) (found []Finding) {
	comments := map[string]int{}
	first := map[string]*File{}
	for _, f := range t.Files {
		if f.AST == nil || f.Test || f.Generated {
			continue
		}
		if first[f.Dir()] == nil {
			first[f.Dir()] = f
		}
		if f.AST.Doc != nil {
			comments[f.Dir()]++
		}
		if f.AST.Name.Name == "main" {
			continue
		}
		for i, d := range f.AST.Decls {
			if i > 0 && t.sharesDoc(f.AST.Decls[i-1], d) {
				continue
			}
			found = append(found, t.undocumented(f, d)...)
		}
	}
	for dir, f := range first {
		if n := comments[dir]; n != 1 {
			found = append(found, Finding{dir, 0, fmt.Sprintf("package %s has %d package comments: want one", f.AST.Name.Name, n)})
		}
	}
	return found
}

// sharesDoc reports whether d is a function on the line after another, whose
// doc comment speaks of d as well.
func (t *Tree) sharesDoc(before, d ast.Decl) bool {
	first, ok1 := before.(*ast.FuncDecl)
	second, ok2 := d.(*ast.FuncDecl)
	return ok1 && ok2 && first.Doc != nil && second.Doc == nil &&
		t.line(first.End())+1 == t.line(second.Pos()) && strings.Contains(first.Doc.Text(), second.Name.Name)
}

func (t *Tree) undocumented(f *File, d ast.Decl) (found []Finding) {
	report := func(n ast.Node, kind, name string) {
		found = append(found, Finding{f.Path, t.line(n.Pos()), fmt.Sprintf("exported %s %s has no doc comment", kind, name)})
	}
	switch d := d.(type) {
	case *ast.FuncDecl:
		recv, exported := receiver(d)
		if d.Name.IsExported() && exported && d.Doc == nil {
			report(d, "function", recv+d.Name.Name)
		}
	case *ast.GenDecl:
		for _, s := range d.Specs {
			switch s := s.(type) {
			case *ast.TypeSpec:
				if s.Name.IsExported() && d.Doc == nil && s.Doc == nil {
					report(s, "type", s.Name.Name)
				}
			case *ast.ValueSpec:
				if d.Doc != nil || s.Doc != nil || s.Comment != nil {
					continue
				}
				for _, name := range s.Names {
					if name.IsExported() {
						report(s, d.Tok.String(), name.Name)
					}
				}
			}
		}
	}
	return found
}

// receiver returns a method's receiver as "Type." and whether it is exported;
// functions count as those of an exported one.
func receiver(d *ast.FuncDecl) (prefix string, exported bool) {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return "", true
	}
	typ := d.Recv.List[0].Type
	for {
		switch x := typ.(type) {
		case *ast.StarExpr:
			typ = x.X
		case *ast.IndexExpr:
			typ = x.X
		case *ast.IndexListExpr:
			typ = x.X
		case *ast.ParenExpr:
			typ = x.X
		case *ast.Ident:
			return x.Name + ".", x.IsExported()
		default:
			return "", true
		}
	}
}
