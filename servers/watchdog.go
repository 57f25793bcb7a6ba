package servers

import (
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// The watchdog is a shell that reads what to kill from a pipe whose other end
// this process has, and does it when the pipe closes before it was told to
// quit: then this process was killed. The kernel's parent-death signal would
// end with the thread that started the server, reach no descendants and leave
// the directory.
const watchScript = `trap '' HUP INT TERM
targets=
while read -r line; do
	[ "$line" = quit ] && exit
	targets=$line
done
for pid in $targets; do kill -s KILL -- "$pid"; done
rm -rf -- "$1" || { sleep 1; rm -rf -- "$1"; }
`

// A watchdog ends what this process started, should it be killed.
type watchdog struct {
	cmd *exec.Cmd
	in  io.WriteCloser
}

// watch starts a watchdog that removes dir.
func watch(dir string) (*watchdog, error) {
	cmd := exec.Command("sh", "-c", watchScript, "watchdog", dir)
	cmd.Dir = "/"
	group(cmd)
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the watchdog: %w", err)
	}
	return &watchdog{cmd, in}, nil
}

// over says which processes to kill from now on; negative ones are groups.
func (w *watchdog) over(pids ...int) error {
	if w == nil {
		return nil
	}
	line := strings.Trim(fmt.Sprint(pids), "[]") + "\n"
	if _, err := io.WriteString(w.in, line); err != nil {
		return fmt.Errorf("tell the watchdog: %w", err)
	}
	return nil
}

// quit ends the watchdog; it does nothing any more.
func (w *watchdog) quit() error {
	if w == nil {
		return nil
	}
	_, err := io.WriteString(w.in, "quit\n")
	_ = w.in.Close()
	if waitErr := w.cmd.Wait(); err == nil {
		err = waitErr
	}
	return err
}
