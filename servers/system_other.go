//go:build !unix

package servers

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// What follows lets the package compile. No server runs here.

var errSystem = errors.New("servers are started on Linux only: use a Linux machine, or compose.yaml by hand")

const (
	sigStop = syscall.Signal(19)
	sigCont = syscall.Signal(18)
)

type member struct {
	dead bool
	born string
}

func tryLock(*os.File) (bool, error)   { return false, errSystem }
func group(*exec.Cmd)                  {}
func session(*exec.Cmd)                {}
func become(*exec.Cmd, string) error   { return errSystem }
func give(string, string) error        { return errSystem }
func signal(int, syscall.Signal) error { return errSystem }
func lookAt(int) (m member, ok bool)   { return m, false }
func family(int) []int                 { return nil }

func moves(int) bool { return false }
