package embedded_test

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/dovetail-go/dovetail/transport/natsbus/embedded"
)

// TestFiles_are_for_this_user_alone: the server's own rights let a group read, and
// a directory that was there may let anybody in.
func TestFiles_are_for_this_user_alone(t *testing.T) {
	if runtime.GOOS == "windows" {
		return // rights are those of the directory above
	}
	dir := filepath.Join(t.TempDir(), "data")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := embedded.Start(t.Context(), embedded.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) < 2 {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, e := range entries {
		if info, err := e.Info(); err != nil || info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has %v, %v", e.Name(), info.Mode(), err)
		}
	}
}
