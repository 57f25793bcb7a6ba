//go:build !unix

package main

import (
	"errors"
	"os"
	"os/exec"
)

// freeze refuses: processes cannot be stopped where they are on this system.
func freeze(*os.Process) error {
	return errors.New("processes cannot be frozen on this system: leave freeze out, as in --node-faults kill,stop,rolling,majority")
}

func thaw(*os.Process) error { return nil }

func ownGroup(*exec.Cmd) {}
