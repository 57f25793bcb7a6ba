package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// CacheVar names the environment variable that says where downloads, builds,
// locks and the state of servers in the background are kept.
const CacheVar = "DOVETAIL_SERVERS_CACHE"

// installTime bounds one installation: a slow mirror, not a dead one.
const installTime = 10 * time.Minute

// CacheDir returns the directory that CacheVar names, or dovetail/servers in
// the user's cache directory, and makes it.
func CacheDir() (string, error) {
	dir := os.Getenv(CacheVar)
	if dir == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", fmt.Errorf("find a directory for downloads: %w; set %s to one", err, CacheVar)
		}
		dir = filepath.Join(user, "dovetail", "servers")
	}
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make the directory for downloads: %w; set %s to another", err, CacheVar)
	}
	return dir, nil
}

// Install brings what k needs and is missing on this machine. Many processes
// may call it at once; one works and the others wait.
func Install(ctx context.Context, k Kind) error {
	if k.Installed() {
		return nil
	}
	dir, err := CacheDir()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, installTime, fmt.Errorf("not done in %v", installTime))
	defer cancel()
	unlock, err := lock(ctx, filepath.Join(dir, "install-"+k.Name()+".lock"))
	if err != nil {
		return fmt.Errorf("install %s: %w", k.Name(), err)
	}
	defer unlock()
	if k.Installed() {
		return nil // by the process that had the lock
	}
	name := filepath.Join(dir, "install-"+k.Name()+".log")
	log, err := os.Create(name)
	if err != nil {
		return err
	}
	err = k.Install(ctx, log)
	if err == nil && !k.Installed() {
		err = errors.New("everything went well and yet it is not there")
	}
	if err = errors.Join(err, log.Close()); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("%w (%w)", err, context.Cause(ctx))
		}
		return fmt.Errorf("install %s: %w; %s ends with:\n%s", k.Name(), err, name, tail(name, 15))
	}
	return nil
}

// run runs one command of an installation in dir, with env beside the
// environment.
func run(ctx context.Context, log io.Writer, dir string, env []string, args ...string) error {
	_, _ = fmt.Fprintf(log, "+ %s\n", strings.Join(args, " "))
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.WaitDelay = 10 * time.Second
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w", filepath.Base(args[0]), err)
	}
	return nil
}

// lock waits for the lock file of that name, which ends with this process at
// the latest.
func lock(ctx context.Context, name string) (unlock func(), err error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	ok := false
	waitErr := poll(ctx, 50*time.Millisecond, func() bool {
		ok, err = tryLock(f)
		return ok || err != nil
	})
	if err = errors.Join(err, waitErr); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("wait for %s: %w", name, err)
	}
	return func() { _ = f.Close() }, nil
}

// poll calls done now and then until it reports true, or ctx ends.
func poll(ctx context.Context, every time.Duration, done func() bool) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-t.C:
		}
	}
	return nil
}

// tail returns the last lines of a file, indented, for an error or a test's
// log.
func tail(name string, lines int) string {
	const most = 32 << 10
	f, err := os.Open(name)
	if err != nil {
		return "    " + err.Error()
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return "    " + err.Error()
	}
	all := strings.Split(strings.TrimSpace(string(b)), "\n")
	all = all[max(0, len(all)-lines):]
	return "    " + strings.Join(all, "\n    ")
}

// cached returns a path below the cache directory; where there is none, one
// that does not exist.
func cached(elem ...string) string {
	dir, err := CacheDir()
	if err != nil {
		return filepath.Join(os.DevNull, "none")
	}
	return filepath.Join(append([]string{dir}, elem...)...)
}

func isFile(name string) bool {
	info, err := os.Stat(name)
	return err == nil && info.Mode().IsRegular()
}
