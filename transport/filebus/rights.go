package filebus

import (
	"io/fs"
	"os"
	"path/filepath"
)

// What is made is for this user alone, whatever the umask: the files hold bodies.
// Only below a directory that its group may write to, which somebody has made so,
// the group gets what the umask leaves it.
const (
	ownDir, ownFile     = 0o700, 0o600
	groupDir, groupFile = 0o770, 0o660
)

// groupWrites reports whether the group of a directory, or of the nearest above it
// that exists, may write to it.
func groupWrites(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err == nil {
			return info.Mode()&0o020 != 0
		}
		above := filepath.Dir(dir)
		if above == dir {
			return false
		}
		dir = above
	}
}

// openFile is os.OpenFile of a file that may have to be made.
func openFile(path string, flag int) (*os.File, error) {
	mode := fs.FileMode(ownFile)
	if groupWrites(filepath.Dir(path)) {
		mode = groupFile
	}
	return os.OpenFile(path, flag, mode)
}

// makeDirs is os.MkdirAll.
func makeDirs(path string) error { return os.MkdirAll(path, dirMode(path)) }

func dirMode(path string) fs.FileMode {
	if groupWrites(filepath.Dir(path)) {
		return groupDir
	}
	return ownDir
}
