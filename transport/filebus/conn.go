package filebus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// Conn is a directory of channels in use by this process. It implements
// driver.Conn, driver.Browser, driver.Lister, driver.Remover and
// driver.Incarnated. All its methods may be called from any goroutine.
type Conn struct {
	dir     string
	opts    Options
	lock    *os.File      // provision.lock
	lockSem chan struct{} // its users in this process
	watch   *watcher
	members notifier // notified when a receiver of this process comes or goes

	opening sync.Mutex // one channel is opened at a time

	mu        sync.Mutex
	channels  map[string]*channel
	receivers map[*receiver]struct{}
	closed    bool
	ops       sync.WaitGroup // calls under way that use files
	finished  chan struct{}  // closed once everything is
	closeErr  error
}

var (
	_ driver.Conn       = (*Conn)(nil)
	_ driver.Browser    = (*Conn)(nil)
	_ driver.Lister     = (*Conn)(nil)
	_ driver.Remover    = (*Conn)(nil)
	_ driver.Incarnated = (*Conn)(nil)
)

// Open begins to use the directory of opts, making it if it is not there.
// Errors are driver.ErrDenied without permission to read and write it, and
// driver.ErrUnsupported on systems other than Linux and macOS.
func Open(ctx context.Context, opts Options) (*Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := supported(); err != nil {
		return nil, err
	}
	if err := opts.setDefaults(); err != nil {
		return nil, fmt.Errorf("file transport: %w", err)
	}
	dir, err := filepath.Abs(opts.Dir)
	if err == nil {
		err = makeRoot(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("file transport in %s: %w", opts.Dir, explain(err))
	}
	lock, err := openFile(filepath.Join(dir, "provision.lock"), os.O_RDWR|os.O_CREATE)
	if err != nil {
		return nil, fmt.Errorf("file transport: %w", explain(err))
	}
	c := &Conn{
		dir: dir, opts: opts, lock: lock, lockSem: make(chan struct{}, 1), watch: newWatcher(),
		channels: map[string]*channel{}, receivers: map[*receiver]struct{}{},
		finished: make(chan struct{}),
	}
	if err := c.sweep(ctx); err != nil {
		return nil, fmt.Errorf("file transport: %w", errors.Join(explain(err), c.Close(context.WithoutCancel(ctx))))
	}
	return c, nil
}

// makeRoot makes the directory, or checks that it is one of ours.
func makeRoot(dir string) error {
	if err := os.Mkdir(dir, ownDir); errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make %s first: %w", filepath.Dir(dir), err)
	} else if err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	format := filepath.Join(dir, "format")
	b, err := os.ReadFile(format)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := makeDirs(filepath.Join(dir, "channels")); err != nil {
			return err
		}
		// A parent that we may write to and not read cannot be synced.
		if err := syncDir(filepath.Dir(dir)); err != nil && !errors.Is(err, fs.ErrPermission) {
			return err
		}
		return writeFile(format, []byte(formatText))
	case err != nil:
		return err
	case string(b) != formatText:
		return fmt.Errorf("%w: the file format says %.60q, want %q: use the release that wrote it, or another directory", driver.ErrConflict, b, formatText)
	}
	return nil
}

// Capabilities returns what this transport can do.
func (c *Conn) Capabilities() driver.Capabilities {
	return driver.Capabilities{
		Name: "filebus", Durable: true, Shared: true, Order: driver.OrderOwner, OrderedBatch: true, Delay: true, RetryAfter: true,
		CountsAttempts: true, Broadcast: true, PublishRetained: true, MaxBytes: c.opts.MaxBytes,
	}
}

// Classify says what kind of error err is.
func (c *Conn) Classify(err error) driver.Kind { return driver.Classify(err) }

// Incarnation returns the machine's start and how much before a loss of power
// may be gone: nothing with SyncAlways, a minute with SyncOS, which is twice
// what Linux lets written pages wait by default (vm.dirty_expire_centisecs).
// Messages on transient channels are not counted: nobody promised anything
// about them.
func (c *Conn) Incarnation(context.Context) (id string, window time.Duration, err error) {
	if err := c.begin(); err != nil {
		return "", 0, err
	}
	defer c.ops.Done()
	if c.opts.Sync == SyncAlways {
		return "durable", 0, nil
	}
	if boot() == 0 {
		return "", 0, fmt.Errorf("when this machine was started cannot be told: %w", driver.ErrUnsupported)
	}
	return fmt.Sprintf("%016x", boot()), time.Minute, nil
}

// begin notes a call that uses files; whoever began calls c.ops.Done.
func (c *Conn) begin() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return fmt.Errorf("file transport: %w", driver.ErrClosed)
	}
	c.ops.Add(1)
	return nil
}

// Close closes the receivers, waits for sends under way and closes the files.
// Calling it again waits for the first call. If ctx ends first, closing goes on
// in the background.
func (c *Conn) Close(ctx context.Context) error { return c.shut(ctx, false) }

// shut is Close; with crash set, it does what the kernel does for a process
// that was killed and nothing else.
func (c *Conn) shut(ctx context.Context, crash bool) error {
	c.mu.Lock()
	first := !c.closed
	c.closed = true
	var open []*receiver
	for r := range c.receivers {
		open = append(open, r)
	}
	c.mu.Unlock()
	if first {
		go func() {
			defer close(c.finished)
			var errs []error
			for _, r := range open {
				errs = append(errs, r.shut(crash))
			}
			c.ops.Wait()
			c.mu.Lock()
			channels := c.channels
			c.channels = map[string]*channel{}
			c.mu.Unlock()
			for _, ch := range channels {
				errs = append(errs, ch.close())
			}
			c.closeErr = errors.Join(append(errs, c.watch.close(), c.lock.Close())...)
		}()
	}
	select {
	case <-c.finished:
		return c.closeErr
	default:
	}
	select {
	case <-c.finished:
		return c.closeErr
	case <-ctx.Done():
		return fmt.Errorf("close file transport: %w", ctx.Err())
	}
}

// locked calls do while this process alone may add and remove channels and
// groups. It waits for the others no longer than ctx and lockTimeout.
func (c *Conn) locked(ctx context.Context, do func() error) error {
	timer := time.NewTimer(lockTimeout)
	defer timer.Stop()
	select {
	case c.lockSem <- struct{}{}:
		defer func() { <-c.lockSem }()
	case <-ctx.Done():
		return ctx.Err()
	}
	pause := time.Millisecond
	for {
		ok, err := tryLock(c.lock)
		if err != nil {
			return err
		}
		if ok {
			break
		}
		again := time.NewTimer(pause)
		select {
		case <-again.C:
			pause = min(2*pause, 20*time.Millisecond)
		case <-timer.C:
			again.Stop()
			return fmt.Errorf("%w: another process has held the lock %s for %v: look whether it is stopped", driver.ErrRetryable, c.lock.Name(), lockTimeout)
		case <-ctx.Done():
			again.Stop()
			return ctx.Err()
		}
	}
	defer unlock(c.lock)
	return do()
}
