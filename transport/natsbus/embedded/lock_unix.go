//go:build unix

package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/dovetail-go/dovetail/driver"
)

// A dirLock keeps other processes out of a directory. The system lets go of it
// when the process ends, however it ends.
type dirLock struct{ f *os.File }

func lockDir(dir string) (*dirLock, error) {
	f, err := os.OpenFile(filepath.Join(dir, "dovetail.lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("embedded: lock directory: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("embedded: lock directory %s: %w", dir, err)
		}
		who := "another process"
		holder := make([]byte, 32)
		if n, _ := f.Read(holder); n > 0 {
			who += " (" + strings.TrimSpace(string(holder[:n])) + ")"
		}
		return nil, fmt.Errorf("embedded: directory %s is in use by %s: %w: let that one listen and connect to it with a nats URL, or name another directory", dir, who, driver.ErrConflict)
	}
	_ = f.Truncate(0)
	_, _ = f.WriteString("pid " + strconv.Itoa(os.Getpid()) + "\n")
	return &dirLock{f}, nil
}

func (l *dirLock) release() { _ = l.f.Close() }
