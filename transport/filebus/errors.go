package filebus

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/dovetail-go/dovetail/driver"
)

// errGone says that a channel or group was removed while it was in use.
var errGone = fmt.Errorf("it was removed: %w", driver.ErrNotFound)

// explain gives an error of the operating system the meaning that the core
// decides on, and a remedy. Errors that have one already pass.
func explain(err error) error {
	switch {
	case err == nil, driver.Classify(err) != driver.Unclassified:
		return err
	case noSpace(err):
		return fmt.Errorf("%w: the disk or quota is full, free space or move the directory: %w", driver.ErrRetryable, err)
	case tooManyFiles(err):
		return fmt.Errorf("%w: raise the limit of open files (ulimit -n): %w", driver.ErrRetryable, err)
	case errors.Is(err, fs.ErrPermission), readOnly(err):
		return fmt.Errorf("%w: every process needs to read and write the directory: %w", driver.ErrDenied, err)
	}
	return err
}
