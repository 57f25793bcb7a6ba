package house

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestSecurity_names_tests_that_exist: each line of the threat model names what
// holds it.
func TestSecurity_names_tests_that_exist(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "security.md"))
	if err != nil {
		t.Fatal(err)
	}
	var code strings.Builder
	err = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".go") {
			var b []byte
			b, err = os.ReadFile(path)
			code.Write(b)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile("`((Test|Fuzz|A_|Attributes_)[A-Za-z0-9_*]+)`").FindAllStringSubmatch(string(page), -1)
	if len(names) < 30 {
		t.Errorf("only %d tests are named", len(names))
	}
	for _, n := range names {
		name, many := strings.CutSuffix(n[1], "*")
		if end := "("; !strings.Contains(code.String(), "func "+name+end) && !strings.Contains(code.String(), `"`+name+`":`) && !(many && strings.Contains(code.String(), "func "+name)) {
			t.Errorf("docs/security.md names %s, which is no test", n[1])
		}
	}
	for _, m := range regexp.MustCompile("script `([a-z_]+)`").FindAllStringSubmatch(string(page), -1) {
		if _, err := os.Stat(filepath.Join(root, "cmd", "dovetail", "testdata", "alone", m[1]+".txtar")); err != nil {
			t.Error(err)
		}
	}
	for i, line := range strings.Split(string(page), "\n") {
		cells := strings.Split(line, "|")
		if len(cells) == 4 && !strings.HasPrefix(cells[2], " ---") && !strings.Contains(cells[2], "held by") && !strings.Contains(cells[2], "`") {
			t.Errorf("docs/security.md:%d: no test holds it", i+1)
		}
	}
}
