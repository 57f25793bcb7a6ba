//go:build !linux && !darwin

package filebus

import (
	"fmt"
	"os"
	"runtime"

	"github.com/dovetail-go/dovetail/driver"
)

func supported() error {
	return fmt.Errorf("file transport on %s: %w: it needs the file locks of Linux or macOS; use another transport, such as embedded:",
		runtime.GOOS, driver.ErrUnsupported)
}

func tryLock(*os.File) (bool, error) { return false, supported() }
func waitLock(*os.File) error        { return supported() }
func unlock(*os.File) error          { return supported() }
func unlinked(*os.File) bool         { return false }
func noSpace(error) bool             { return false }
func tooManyFiles(error) bool        { return false }
func readOnly(error) bool            { return false }
