package embedded

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// A marker is the file that tells a clean stop from another. It says "running"
// from before the server starts until after everything is on the disk; who
// finds it so at a start knows that the last run ended otherwise.
type marker struct {
	path        string
	Incarnation string `json:"incarnation"`
	Running     bool   `json:"running"`
}

// openMarker reads the marker of dir, takes a new incarnation if the last run
// did not end cleanly, and marks the directory as running.
func openMarker(dir string) (*marker, error) {
	m := &marker{path: filepath.Join(dir, "dovetail.json")}
	data, err := os.ReadFile(m.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case json.Unmarshal(data, m) != nil:
		m.Incarnation = "" // torn by the unclean stop that it tells of
	}
	if m.Running || m.Incarnation == "" || strings.ContainsAny(m.Incarnation, " \t\r\n") {
		m.Incarnation = strings.ToLower(rand.Text()[:12])
	}
	m.Running = true
	return m, m.write()
}

func (m *marker) clean() error {
	m.Running = false
	return m.write()
}

// write replaces the file and returns once it is on the disk.
func (m *marker) write() error {
	data, err := json.Marshal(m)
	if err != nil {
		return err
	}
	next := m.path + ".next"
	if err := os.WriteFile(next, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("mark as running: %w", err)
	}
	if err := syncFile(next); err != nil {
		return err
	}
	if err := os.Rename(next, m.path); err != nil {
		return err
	}
	return syncFile(filepath.Dir(m.path))
}

// syncTree writes everything below dir to the disk. What goes away meanwhile is
// passed over: the server deletes streams in the background.
func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && (d.IsDir() || d.Type().IsRegular()) {
			err = syncFile(path)
		}
		if errors.Is(err, fs.ErrNotExist) && path != dir {
			return nil
		}
		return err
	})
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrInvalid) {
		return err
	}
	return nil
}
