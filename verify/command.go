package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// NodeCommand returns an Options.Node that runs a command with sh, in which {do} and
// {node} stand for what is done and for the node's name. Its errors have the
// command's output. A server that the command starts and leaves running may keep
// that output: it goes to a file that has no name, and that grows until the server
// ends.
func NodeCommand(command string) func(ctx context.Context, do, node string) error {
	return func(ctx context.Context, do, node string) error {
		// A pipe would break under a server that is left running, and end it.
		out, err := os.CreateTemp("", "dovetail-node-")
		if err != nil {
			return err
		}
		defer func() {
			_ = out.Close()
			_ = os.Remove(out.Name())
		}()
		cmd := exec.CommandContext(ctx, "sh", "-c", strings.NewReplacer("{do}", do, "{node}", node).Replace(command))
		Apart(cmd)
		cmd.Cancel = func() error { return endShell(cmd) }
		cmd.Stdout, cmd.Stderr = out, out
		if err := cmd.Run(); err != nil {
			return said(err, out)
		}
		return nil
	}
}

// said is err with the end of what a command has written.
func said(err error, out *os.File) error {
	info, serr := out.Stat()
	if serr != nil {
		return errors.Join(err, serr)
	}
	text, rerr := io.ReadAll(io.NewSectionReader(out, max(0, info.Size()-ringSize), ringSize))
	if rerr != nil {
		return errors.Join(err, rerr)
	}
	if text = bytes.TrimSpace(text); len(text) > 0 {
		return fmt.Errorf("%w: %s", err, text)
	}
	return err
}
