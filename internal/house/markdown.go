package house

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Go code in a document is a copy of code that is compiled. A comment line
// before the block names where it comes from, a whole file or declarations of
// one:
//
//	<!-- from: examples/quickstart/main.go -->
//	<!-- from: transport/filebus/filebus_test.go#TestConformance -->
//
// "make docs" writes the copies again. A few lines of usage may do without; see
// usage.
var fromLine = regexp.MustCompile(`^<!-- from: (\S+?)(?:#([\w.,]+))? -->$`)

// A block is a fenced block of a document.
type block struct {
	lang       string
	from, decl string // what the comment before it names
	line       int    // of the first line of its content, from 1
	start, end int    // of its content, in bytes
}

// blocks returns the fenced blocks of a document.
func blocks(text string) (all []block) {
	var cur *block
	var from []string
	offset, line := 0, 0
	for s := range strings.Lines(text) {
		line++
		trimmed := strings.TrimSpace(s)
		switch {
		case cur == nil && strings.HasPrefix(trimmed, "```"):
			cur = &block{lang: strings.TrimPrefix(trimmed, "```"), line: line + 1, start: offset + len(s)}
			if from != nil {
				cur.from, cur.decl = from[1], from[2]
			}
		case cur != nil && trimmed == "```":
			cur.end = offset
			all = append(all, *cur)
			cur, from = nil, nil
		case cur == nil && trimmed != "":
			from = fromLine.FindStringSubmatch(trimmed)
		}
		offset += len(s)
	}
	return all
}

func markdownCode(t *Tree) (found []Finding) {
	for _, p := range t.Markdown {
		text, err := fs.ReadFile(t.FS, p)
		if err != nil {
			found = append(found, Finding{p, 0, err.Error()})
			continue
		}
		for _, b := range blocks(string(text)) {
			switch {
			case b.lang != "go":
			case b.from == "" && within(p, "docs/decisions"): // may show what lost
			case b.from == "":
				if err := t.usage(string(text[b.start:b.end])); err != nil {
					found = append(found, Finding{p, b.line, err.Error()})
				}
			default:
				want, err := excerpt(t.FS, b.from, b.decl)
				if err != nil {
					found = append(found, Finding{p, b.line, err.Error()})
				} else if want != string(text[b.start:b.end]) {
					found = append(found, Finding{p, b.line, "differs from " + b.from + ": run make docs"})
				}
			}
		}
	}
	return found
}

// excerpt returns a file, or those of its top-level declarations that decls
// names, with their comments, separated by blank lines.
func excerpt(fsys fs.FS, name, decls string) (string, error) {
	src, err := fs.ReadFile(fsys, name)
	if err != nil || decls == "" {
		return string(src), err
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, name, src, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return "", err
	}
	var parts []string
	for _, want := range strings.Split(decls, ",") {
		found := false
		for _, d := range f.Decls {
			if !slices.Contains(declared(d), want) {
				continue
			}
			from, to := fset.Position(d.Pos()).Offset, fset.Position(d.End()).Offset
			if doc := docOf(d); doc != nil {
				from = fset.Position(doc.Pos()).Offset
			}
			parts = append(parts, string(src[from:to])+"\n")
			found = true
		}
		if !found {
			return "", fmt.Errorf("%s declares no %s", name, want)
		}
	}
	return strings.Join(parts, "\n"), nil
}

func docOf(d ast.Decl) *ast.CommentGroup {
	switch d := d.(type) {
	case *ast.FuncDecl:
		return d.Doc
	case *ast.GenDecl:
		return d.Doc
	}
	return nil
}

// Refresh returns a document with its copied code written again.
func Refresh(fsys fs.FS, text string) (string, error) {
	var b strings.Builder
	done := 0
	for _, bl := range blocks(text) {
		if bl.from == "" {
			continue
		}
		code, err := excerpt(fsys, bl.from, bl.decl)
		if err != nil {
			return "", err
		}
		b.WriteString(text[done:bl.start])
		b.WriteString(code)
		done = bl.end
	}
	b.WriteString(text[done:])
	return b.String(), nil
}

var mdLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)

func markdownLinks(t *Tree) (found []Finding) {
	for _, p := range t.Markdown {
		text, err := fs.ReadFile(t.FS, p)
		if err != nil {
			continue // markdownCode says so
		}
		code := blocks(string(text))
		for _, m := range mdLink.FindAllStringSubmatchIndex(string(text), -1) {
			if slices.ContainsFunc(code, func(b block) bool { return b.start <= m[0] && m[0] < b.end }) {
				continue
			}
			target, _, _ := strings.Cut(string(text[m[2]:m[3]]), "#")
			if target == "" || strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			full := path.Join(path.Dir(p), target)
			if _, err := fs.Stat(t.FS, full); err != nil {
				line := 1 + strings.Count(string(text[:m[0]]), "\n")
				found = append(found, Finding{p, line, "links to " + target + ", which is not there"})
			}
		}
	}
	return found
}
