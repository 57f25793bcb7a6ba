package house

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// root is the repository's root, seen from this package.
const root = "../.."

func TestHouse(t *testing.T) {
	tree, err := Load(os.DirFS(root))
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range Rules() {
		t.Run(strings.ReplaceAll(r.Name, " ", "_"), func(t *testing.T) {
			found := r.Check(tree)
			sortFindings(found)
			for _, f := range found {
				t.Error(f)
			}
		})
	}
}

func TestHouse_root_module_requires_nothing(t *testing.T) {
	cmd := exec.Command("go", "list", "-m", "all")
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK=off")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("go list -m all: %v\n%s", err, out)
	}
	if got := strings.TrimSpace(string(out)); got != "github.com/dovetail-go/dovetail" {
		t.Errorf("the root module's build list has more than the root:\n%s", got)
	}
}
