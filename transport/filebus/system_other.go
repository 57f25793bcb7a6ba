//go:build !linux

package filebus

import "os"

// syncData makes f's data and size survive a loss of power; on macOS Go asks
// the disk itself (F_FULLFSYNC).
func syncData(f *os.File) error { return f.Sync() }

// bootID is not told apart here: every first use of a channel in a process
// checks the end of its log.
func bootID() string { return "" }
