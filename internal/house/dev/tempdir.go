package main

import (
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// tempDir is the temporary directory of one run of the tests, so that what they
// leave behind can be told from what others put into the machine's.
type tempDir string

// newTempDir makes the directory. It is the same for every run of one clone, so
// that go test finds in its cache what has not changed; what a run left there
// that was interrupted is removed.
func newTempDir(clone string) (tempDir, error) {
	h := fnv.New32a()
	h.Write([]byte(clone))
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("dovetail-test-%08x", h.Sum32()))
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return "", err
	}
	// Servers run as other users and have their directories in it.
	return tempDir(dir), os.Chmod(dir, 0o777|os.ModeSticky)
}

// env has go test and all that it starts use the directory.
func (d tempDir) env() []string { return []string{"TMPDIR=" + string(d)} }

// remove removes the directory and returns the names of what was left in it.
func (d tempDir) remove() (left []string, err error) {
	entries, err := os.ReadDir(string(d))
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if name := e.Name(); !strings.HasPrefix(name, "hsperfdata_") { // every Java process on this machine shares it
			left = append(left, name)
		}
	}
	return left, os.RemoveAll(string(d))
}

// failLeft fails the run for what tests have left in the temporary directory.
func (res *results) failLeft(left []string) {
	if len(left) == 0 {
		return
	}
	res.mu.Lock()
	defer res.mu.Unlock()
	slices.Sort(left)
	const most = 10
	more := ""
	if n := len(left) - most; n > 0 {
		left, more = left[:most], fmt.Sprintf(" and %d more", n)
	}
	res.checks.run++
	res.checks.failed++
	res.failed = append(res.failed, "left in the temporary directory: "+strings.Join(left, ", ")+more)
}
