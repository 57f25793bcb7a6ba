package bench

import (
	"os"
	"syscall"
)

// datasync writes a file's data to the disk, and of its metadata what finds it.
func datasync(f *os.File) error { return syscall.Fdatasync(int(f.Fd())) }
