package house

import (
	"fmt"
	"strings"
)

// ModFile is what the rules and the release need of a go.mod.
type ModFile struct {
	Path     string            // the module's path
	Go       string            // the language version
	Requires map[string]string // module path → version, direct and indirect
	Replaces map[string]string // module path → what stands for it, a directory or "path version"
	Line     map[string]int    // of a require or replace, by module path
}

// ParseMod reads a go.mod. It knows the directives that this repository uses
// and passes over the others.
func ParseMod(text string) (ModFile, error) {
	m := ModFile{Requires: map[string]string{}, Replaces: map[string]string{}, Line: map[string]int{}}
	err := directives(text, func(line int, verb string, args []string) error {
		switch {
		case verb == "module" && len(args) == 1:
			m.Path = args[0]
		case verb == "go" && len(args) == 1:
			m.Go = args[0]
		case verb == "require" && len(args) == 2:
			m.Requires[args[0]] = args[1]
			m.Line[args[0]] = line
		case verb == "replace":
			from, to, ok := strings.Cut(strings.Join(args, " "), " => ")
			if !ok {
				return fmt.Errorf("line %d: replace without =>", line)
			}
			from, _, _ = strings.Cut(from, " ") // a version limits it; ours never do
			m.Replaces[from] = to
			m.Line[from] = line
		}
		return nil
	})
	if err == nil && m.Path == "" {
		err = fmt.Errorf("no module line")
	}
	return m, err
}

// parseWork returns the language version and the directories of a go.work.
func parseWork(text string) (version string, dirs []string, err error) {
	err = directives(text, func(_ int, verb string, args []string) error {
		switch {
		case verb == "go" && len(args) == 1:
			version = args[0]
		case verb == "use" && len(args) == 1:
			dirs = append(dirs, cleanDir(args[0]))
		}
		return nil
	})
	return version, dirs, err
}

// directives calls f for each directive of a go.mod or go.work, blocks taken
// apart.
func directives(text string, f func(line int, verb string, args []string) error) error {
	block := ""
	line := 0
	for s := range strings.Lines(text) {
		line++
		s, _, _ = strings.Cut(s, "//")
		words := strings.Fields(s)
		for i, w := range words {
			words[i] = strings.Trim(w, `"`)
		}
		switch {
		case len(words) == 0:
		case block != "" && words[0] == ")":
			block = ""
		case block != "":
			if err := f(line, block, words); err != nil {
				return err
			}
		case len(words) == 2 && words[1] == "(":
			block = words[0]
		default:
			if err := f(line, words[0], words[1:]); err != nil {
				return err
			}
		}
	}
	if block != "" {
		return fmt.Errorf("block %s is not closed", block)
	}
	return nil
}
