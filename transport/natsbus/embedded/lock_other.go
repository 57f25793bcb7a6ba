//go:build !unix

package embedded

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/dovetail-go/dovetail/driver"
)

// A dirLock keeps other processes out of a directory: the file cannot be
// removed while a process has it open, and is taken over once it can.
type dirLock struct {
	f    *os.File
	path string
}

func lockDir(dir string) (*dirLock, error) {
	path := filepath.Join(dir, "dovetail.lock")
	_ = os.Remove(path)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("embedded: directory %s is in use by another process: %w: let that one listen and connect to it with a nats URL, or name another directory: %w", dir, driver.ErrConflict, err)
	}
	return &dirLock{f, path}, nil
}

func (l *dirLock) release() {
	_ = l.f.Close()
	_ = os.Remove(l.path)
}
