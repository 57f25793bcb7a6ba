package verify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"
)

// NodeCommand returns an Options.Node that runs a command with sh, in which {do} and
// {node} stand for what is done and for the node's name. Its errors have the
// command's output.
func NodeCommand(command string) func(ctx context.Context, do, node string) error {
	return func(ctx context.Context, do, node string) error {
		cmd := exec.CommandContext(ctx, "sh", "-c", strings.NewReplacer("{do}", do, "{node}", node).Replace(command))
		Apart(cmd)
		cmd.Cancel = func() error { return endShell(cmd) }
		cmd.WaitDelay = time.Second
		out, err := cmd.CombinedOutput()
		if errors.Is(err, exec.ErrWaitDelay) {
			err = nil // a server that it started still has its output
		}
		if out = bytes.TrimSpace(out); err != nil && len(out) > 0 {
			err = fmt.Errorf("%w: %s", err, out[max(0, len(out)-ringSize):])
		}
		return err
	}
}
