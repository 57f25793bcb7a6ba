package house

import (
	"fmt"
	"go/ast"
	"go/token"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// MaxLines is how long a file that is no test may be.
const MaxLines = 500

var emptyNames = []string{"util", "utils", "common", "helper", "helpers", "pkg", "type", "types", "misc", "base", "shared"}

func packageNames(t *Tree) (found []Finding) {
	seen := map[string]bool{}
	for _, f := range t.Files {
		if f.AST == nil || seen[f.Dir()] {
			continue
		}
		seen[f.Dir()] = true
		name := strings.TrimSuffix(f.AST.Name.Name, "_test")
		switch {
		case slices.Contains(emptyNames, name), slices.Contains(emptyNames, path.Base(f.Dir())):
			found = append(found, Finding{f.Dir(), 0, "package " + name + ": name it for what it provides"})
		case strings.ToLower(name) != name || strings.Contains(name, "_"):
			found = append(found, Finding{f.Dir(), 0, "package " + name + ": want one lower-case word"})
		}
	}
	return found
}

func noSleep(t *Tree) (found []Finding) {
	for _, f := range t.Files {
		if f.AST == nil {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "Sleep" {
				return true
			}
			if x, ok := sel.X.(*ast.Ident); ok && x.Name == "time" {
				found = append(found, Finding{f.Path, t.line(n.Pos()),
					"time.Sleep: wait for the thing itself, on a channel, a context or a timer in a select; in tests, testing/synctest"})
			}
			return true
		})
	}
	return found
}

func fileLength(t *Tree) (found []Finding) {
	for _, f := range t.Files {
		if !f.Test && !f.Generated && f.Lines > MaxLines {
			found = append(found, Finding{f.Path, 0, fmt.Sprintf("%d lines: past %d it is two subjects", f.Lines, MaxLines)})
		}
	}
	return found
}

// leftover finds the usual marks in comments; it is put together here so that
// this file does not bear them.
var leftover = regexp.MustCompile(`\b(` + strings.Join([]string{"TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK"}, "|") + `)\b`)

func noLeftovers(t *Tree) (found []Finding) {
	for _, f := range t.Files {
		if f.AST == nil || f.Generated {
			continue
		}
		for _, group := range f.AST.Comments {
			for _, c := range group.List {
				if mark := leftover.FindString(c.Text); mark != "" {
					found = append(found, Finding{f.Path, t.line(c.Pos()),
						mark + ": do it now, or say in CHANGELOG.md or an issue that it is not there"})
				}
			}
		}
	}
	return found
}

// errorTexts looks at the texts of errors.New and fmt.Errorf: they are put
// into sentences by others, so they end without a stop and do not say that
// something failed. (They begin in lower case, unless with a name; that is left
// to the reader.)
func errorTexts(t *Tree) (found []Finding) {
	for _, f := range t.Files {
		if f.AST == nil || f.Test || f.Generated {
			continue
		}
		ast.Inspect(f.AST, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) == 0 || !isErrorMaker(call.Fun) {
				return true
			}
			lit, ok := call.Args[0].(*ast.BasicLit)
			if !ok || lit.Kind != token.STRING {
				return true
			}
			text, err := strconv.Unquote(lit.Value)
			if err != nil {
				return true
			}
			if why := badErrorText(text); why != "" {
				found = append(found, Finding{f.Path, t.line(lit.Pos()), fmt.Sprintf("error text %s %s", lit.Value, why)})
			}
			return true
		})
	}
	return found
}

func isErrorMaker(fun ast.Expr) bool {
	sel, ok := fun.(*ast.SelectorExpr)
	if !ok {
		return false
	}
	x, ok := sel.X.(*ast.Ident)
	return ok && (x.Name == "errors" && sel.Sel.Name == "New" || x.Name == "fmt" && sel.Sel.Name == "Errorf")
}

func badErrorText(s string) string {
	switch {
	case strings.Contains(s, "failed to "):
		return "says \"failed to\": say what was being done"
	case strings.HasSuffix(s, ".") && !strings.HasSuffix(s, "..."), strings.HasSuffix(s, "!"), strings.HasSuffix(s, "\n"):
		return "ends like a sentence"
	}
	return ""
}
