//go:build linux || darwin

package filebus

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// rightsOf uses every kind of file of a bus under an umask, and returns the
// rights of all that was made, but of the root.
func rightsOf(t *testing.T, root string, umask int) map[string]fs.FileMode {
	t.Helper()
	defer syscall.Umask(syscall.Umask(umask)) // nothing else runs meanwhile: the test is not parallel
	c, err := Open(t.Context(), Options{Dir: root, Partitions: 2})
	if err != nil {
		t.Fatal(err)
	}
	ch := driver.Channel{Name: "orders"}
	sub := driver.Subscription{Channel: ch, Group: "mail", Window: 10}
	if err := c.Provision(t.Context(), []driver.Channel{ch}, []driver.Subscription{sub}); err != nil {
		t.Fatal(err)
	}
	r, err := c.OpenReceiver(t.Context(), sub)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Send(t.Context(), []*driver.Message{{Channel: ch.Name, ID: "1", Body: []byte("b")}, {Channel: ch.Name, ID: "2", Due: time.Now().Add(time.Hour)}}); err != nil {
		t.Fatal(err)
	}
	ds, err := r.Receive(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Settle(t.Context(), []driver.Settlement{{Delivery: ds[0]}}); err != nil {
		t.Fatal(err)
	}
	modes := map[string]fs.FileMode{}
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || path == root {
			return err
		}
		info, err := d.Info()
		if err == nil {
			modes[path] = info.Mode()
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	return modes
}

func TestFiles_are_for_this_user_alone_whatever_the_umask(t *testing.T) {
	for _, umask := range []int{0, 0o022} {
		root := filepath.Join(t.TempDir(), "bus")
		modes := rightsOf(t, root, umask)
		if info, err := os.Stat(root); err != nil || info.Mode().Perm() != 0o700 {
			t.Errorf("umask %o: the directory has %v, %v", umask, info.Mode(), err)
		}
		if len(modes) < 12 {
			t.Errorf("only %d files were made", len(modes))
		}
		for path, mode := range modes {
			if mode.Perm()&0o077 != 0 {
				t.Errorf("umask %o: %s has %v", umask, path, mode)
			}
		}
	}
}

func TestFiles_in_a_directory_that_its_group_writes_to_are_the_groups(t *testing.T) {
	root := filepath.Join(t.TempDir(), "bus")
	if err := os.Mkdir(root, 0o770); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(root, 0o770); err != nil {
		t.Fatal(err)
	}
	for path, mode := range rightsOf(t, root, 0o007) {
		if want := map[bool]fs.FileMode{true: 0o770, false: 0o660}[mode.IsDir()]; mode.Perm() != want {
			t.Errorf("%s has %v, want %v", path, mode, want)
		}
	}
}
