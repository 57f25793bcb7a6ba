package dovetail_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// Each program in testdata/misuse uses a contract in a way that its kind does
// not allow; the comment at the line says what the compiler must answer.
func TestMisuse_does_not_compile(t *testing.T) {
	dirs, err := filepath.Glob("testdata/misuse/*")
	if err != nil || len(dirs) == 0 {
		t.Fatalf("no programs: %v", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			t.Parallel()
			source, err := os.ReadFile(filepath.Join(dir, "main.go"))
			if err != nil {
				t.Fatal(err)
			}
			want := regexp.MustCompile(`// want: (.*)`).FindSubmatch(source)
			if want == nil {
				t.Fatal("the program does not say what the compiler must answer")
			}
			out, err := exec.Command("go", "build", "-o", os.DevNull, "./"+dir).CombinedOutput()
			if err == nil {
				t.Fatal("it compiles")
			}
			if !strings.Contains(string(out), string(want[1])) {
				t.Errorf("compiler said:\n%s\nwant: %s", out, want[1])
			}
		})
	}
}
