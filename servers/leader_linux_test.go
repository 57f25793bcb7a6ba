package servers

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// As leaderless, this program's first thread ends while another listens.
func init() {
	if os.Getenv("DOVETAIL_TEST_LEADERLESS") == "" {
		return
	}
	runtime.LockOSThread() // the first thread stays this goroutine's
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(l.Addr())
	_, _, _ = syscall.Syscall(syscall.SYS_EXIT, 0, 0, 0)
}

func TestProcess_lives_as_long_as_any_of_its_threads(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), "DOVETAIL_TEST_LEADERLESS=1")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid := cmd.Process.Pid
	leader := func() bool {
		fields := statOf(fmt.Sprintf("/proc/%d/stat", pid))
		return fields != nil && ended(fields)
	}
	for deadline := time.Now().Add(10 * time.Second); !leader(); {
		<-time.After(time.Millisecond)
		if time.Now().After(deadline) {
			t.Fatal("its first thread has not ended")
		}
	}
	if l, err := net.Listen("tcp", strings.TrimSpace(addr)); err == nil {
		_ = l.Close()
		t.Fatal("its port is free: it has ended altogether")
	}
	if !running(pid) {
		t.Error("a process that holds a port is taken for ended")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); running(pid); {
		<-time.After(time.Millisecond)
		if time.Now().After(deadline) {
			t.Fatal("it was killed and is taken for alive")
		}
	}
}
