package embedded_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/transport/natsbus"
	"github.com/dovetail-go/dovetail/transport/natsbus/embedded"
)

// The test runs again as a process that has a small disk of its own, in memory,
// where the system lets it.
func TestServer_recovers_from_a_full_disk(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "DOVETAIL_TEST_FULL_DISK="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, syscall.EPERM) || strings.Contains(string(out), errNoDisk.Error()) {
		t.Logf("not tried with a disk: %v %s; the test of the guard is without one", err, out)
		return
	}
	if err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

var errNoDisk = errors.New("no disk of its own")

func onFullDisk(dir string) error {
	// Private, so that nobody else sees the mount.
	if err := errors.Join(syscall.Mount("", "/", "", syscall.MS_PRIVATE|syscall.MS_REC, ""),
		syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m")); err != nil {
		return fmt.Errorf("%w: %w", errNoDisk, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c, err := embedded.Open(ctx, embedded.Options{Dir: filepath.Join(dir, "data"), MaxStore: 1 << 30, Logger: quiet}, natsbus.Options{Timeout: time.Second})
	if err != nil {
		return err
	}
	defer c.Close(context.Background())
	s := driver.Subscription{Channel: driver.Channel{Name: "disk"}, Group: "worker", Instance: "1", Window: 100}
	if err := c.Provision(ctx, nil, []driver.Subscription{s}); err != nil {
		return err
	}
	fill := filepath.Join(dir, "fill")
	f, err := os.Create(fill)
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	_ = f.Close()
	confirmed := 0
	for err = nil; err == nil; {
		if err = c.Send(ctx, numbered("disk", "k", 1)); err == nil {
			confirmed++
		}
	}
	if !errors.Is(err, driver.ErrRetryable) || !strings.Contains(err.Error(), "no space left on device") {
		return fmt.Errorf("a send with the disk full: %w, want it retryable, with the reason", err)
	}
	if err := os.Remove(fill); err != nil {
		return err
	}
	for err = c.Send(ctx, numbered("disk", "k", 1)); err != nil; err = c.Send(ctx, numbered("disk", "k", 1)) {
		if ctx.Err() != nil {
			return fmt.Errorf("a send with the disk cleared: %w", err)
		}
		<-time.After(50 * time.Millisecond)
	}
	r, err := c.OpenReceiver(ctx, s)
	if err != nil {
		return err
	}
	for got := 0; got < confirmed+1; {
		ds, err := r.Receive(ctx, 100)
		if err != nil {
			return fmt.Errorf("%d of %d came: %w", got, confirmed+1, err)
		}
		got += len(ds)
		settle := make([]driver.Settlement, len(ds))
		for i, d := range ds {
			settle[i].Delivery = d
		}
		if err := r.Settle(ctx, settle); err != nil {
			return err
		}
	}
	return nil
}
