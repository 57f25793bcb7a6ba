package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"

	"github.com/dovetail-go/dovetail/transport/natsbus/embedded"
)

// serveEnv names the directory in which a child process is to serve.
const serveEnv = "DOVETAIL_BENCH_SERVE"

// Serve turns the process into the server that the target "nats" is measured
// on, if Run started it as such, and reports whether it did. A program that
// calls Run calls Serve first thing in main; a test in TestMain.
func Serve() bool {
	dir := os.Getenv(serveEnv)
	if dir == "" {
		return false
	}
	ctx := context.Background()
	s, err := embedded.Start(ctx, embedded.Options{Dir: dir, Listen: "127.0.0.1:0", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	fmt.Println("listening", s.ClientURL())
	// The parent's end of the pipe closes with the parent, however it ends.
	_, _ = io.Copy(io.Discard, os.Stdin)
	if err := s.Close(ctx); err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
	return true
}

// A child is a server in a process of its own.
type child struct {
	url   string
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
}

func startServer(ctx context.Context, dir string) (*child, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	c := &child{cmd: exec.CommandContext(ctx, self)}
	c.cmd.Env = append(os.Environ(), serveEnv+"="+dir)
	c.cmd.Stderr = os.Stderr
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start server: %w", err)
	}
	c.out = bufio.NewReader(out)
	line, err := c.out.ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "listening ")
	if err != nil || !ok {
		return nil, errors.Join(fmt.Errorf("start server: it said %q: does the program call bench.Serve first?", line), c.stop())
	}
	c.url = url
	return c, nil
}

// stop ends the server and waits for it.
func (c *child) stop() error {
	err := c.stdin.Close()
	said, readErr := io.ReadAll(c.out)
	if err = errors.Join(err, readErr, c.cmd.Wait()); err != nil {
		return fmt.Errorf("stop server: %w: it said %q", err, said)
	}
	return nil
}
