//go:build !linux

package embedded_test

import "errors"

func onFullDisk(string) error { return errors.New("only on Linux") }
