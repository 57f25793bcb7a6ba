// Package house holds the rules of this repository that a compiler does not
// know: which way imports run, what has a go.mod, how long a file may be, what
// is documented. The rules read source text only, so that they say the same
// on a fresh machine, without a network and for code that does not compile yet.
//
// The package's test applies them to the repository; so does "make check".
package house

import (
	"cmp"
	"fmt"
	"io/fs"
	"slices"
)

// A Finding is one place that breaks a rule.
type Finding struct {
	Path string // slash-separated, from the repository's root
	Line int    // from 1; 0 for the file or directory as a whole
	Text string // what is wrong, and where it is not plain, the remedy
}

// String returns the finding as compilers print theirs: "path:line: text".
func (f Finding) String() string {
	if f.Line == 0 {
		return fmt.Sprintf("%s: %s", f.Path, f.Text)
	}
	return fmt.Sprintf("%s:%d: %s", f.Path, f.Line, f.Text)
}

// A Rule is one thing that holds everywhere in the repository.
type Rule struct {
	Name  string // "imports run one way"
	Check func(*Tree) []Finding
}

// Rules returns all rules, in the order in which they are reported.
func Rules() []Rule {
	return []Rule{
		{"every file parses", unparsed},
		{"imports run one way", oneWay},
		{"the root module imports the standard library only", rootAlone},
		{"satellites know the root only", satellites},
		{"a go.mod where third-party code is imported, and only there", modulesWhereNeeded},
		{"siblings are replaced by their directories", replaced},
		{"every module is in the workspace", inWorkspace},
		{"package names say something", packageNames},
		{"nothing sleeps", noSleep},
		{"files have one subject", fileLength},
		{"exported names are documented", documented},
		{"errors read well", errorTexts},
		{"nothing is left for later", noLeftovers},
		{"every crash point is passed and killed at", crashPoints},
		{"code in documents is compiled code", markdownCode},
		{"links in documents lead somewhere", markdownLinks},
	}
}

// Check applies every rule to the repository in fsys and returns what breaks
// them, by rule name, with the findings sorted by place.
func Check(fsys fs.FS) (map[string][]Finding, error) {
	t, err := Load(fsys)
	if err != nil {
		return nil, err
	}
	found := map[string][]Finding{}
	for _, r := range Rules() {
		if fs := r.Check(t); len(fs) > 0 {
			sortFindings(fs)
			found[r.Name] = fs
		}
	}
	return found, nil
}

func sortFindings(fs []Finding) {
	slices.SortFunc(fs, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Path, b.Path), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Text, b.Text))
	})
}
