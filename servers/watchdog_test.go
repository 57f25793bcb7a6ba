package servers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"
)

// ownerVar makes this test binary the process that is killed.
const ownerVar = "DOVETAIL_SERVERS_TEST_OWNER"

// own starts a server, tells of it and waits to be killed.
func own(mode string) int {
	s, err := Launch(context.Background(), NATS)
	if err == nil && mode == "pause" {
		err = s.Pause()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(s.proc.pid, s.Dir())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return 0
}

func TestServer_ends_with_a_process_that_is_killed(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"run", "pause"} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), ownerVar+"="+mode)
			cmd.Stderr = os.Stderr
			in, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			defer in.Close()
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var pid int
			var dir string
			_, scanErr := fmt.Fscan(bufio.NewReader(out), &pid, &dir)
			killErr := cmd.Process.Kill()
			_ = cmd.Wait() // it was killed
			if err := errors.Join(scanErr, killErr); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), slow)
			defer cancel()
			if err := poll(ctx, 10*time.Millisecond, func() bool { return !running(pid) && !isDir(dir) }); err != nil {
				t.Errorf("the server runs: %v, its directory is there: %v", running(pid), isDir(dir))
			}
		})
	}
}
