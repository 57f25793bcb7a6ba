package servers

import (
	"errors"
	"os"
	"os/exec"
	"testing"
)

// apart gives a test a cache directory of its own, with nats-server in it, so
// that its servers in the background are nobody else's.
func apart(t *testing.T) {
	t.Helper()
	if err := Install(t.Context(), NATS); err != nil {
		t.Fatal(err)
	}
	program := cached("nats-server-" + natsVersion)
	t.Setenv(CacheVar, t.TempDir())
	if err := os.Symlink(program, cached("nats-server-"+natsVersion)); err != nil {
		t.Fatal(err)
	}
}

// inBackground returns the server as another process would see it.
func inBackground(t *testing.T) *Server {
	t.Helper()
	s, done, err := Background(t.Context(), NATS)
	if err != nil {
		t.Fatal(err)
	}
	done()
	return s
}

func TestUp_starts_once_and_again_on_the_same_data(t *testing.T) {
	apart(t)
	var did []string
	up := func() *Server {
		t.Helper()
		did = nil
		if err := Up(t.Context(), []Kind{NATS}, func(_ Kind, doing string) { did = append(did, doing) }); err != nil {
			t.Fatal(err)
		}
		return inBackground(t)
	}
	if _, _, err := Background(t.Context(), NATS); !errors.Is(err, ErrNotThere) {
		t.Fatalf("before it is up: %v", err)
	}
	first := up()
	defer func() {
		if err := inBackground(t).Close(); err != nil {
			t.Error(err)
		}
		if _, _, err := Background(t.Context(), NATS); !errors.Is(err, ErrNotThere) || isDir(first.Dir()) {
			t.Errorf("after it was closed: %v, directory %v", err, isDir(first.Dir()))
		}
	}()
	natsRequest(t, first, "$JS.API.STREAM.CREATE.KEPT", `{"name":"KEPT","subjects":["kept"]}`)
	if second := up(); second.proc.pid != first.proc.pid || len(did) != 1 {
		t.Errorf("a second up did %q", did)
	}
	if err := inBackground(t).Kill(); err != nil {
		t.Fatal(err)
	}
	if err := inBackground(t).Answers(t.Context()); err == nil {
		t.Error("what was killed answers")
	}
	third := up()
	if third.URL() != first.URL() || third.Version() == "" {
		t.Errorf("started again it is %s at %s, was at %s", third.Version(), third.URL(), first.URL())
	}
	natsRequest(t, third, "$JS.API.STREAM.INFO.KEPT", "")
	ports, err := backgroundPorts()
	if err != nil || len(ports) != len(NATS.Ports()) {
		t.Errorf("the ports of servers in the background are %v, %v", ports, err)
	}
}

func TestUp_names_what_it_cannot_start(t *testing.T) {
	apart(t)
	err := Up(t.Context(), []Kind{broken{script: "exit 3"}, NATS}, func(Kind, string) {})
	if err == nil {
		t.Error("it says nothing")
	}
	s := inBackground(t)
	if err := errors.Join(s.Answers(t.Context()), s.Close()); err != nil {
		t.Errorf("the other one: %v", err)
	}
}

func TestDown_leaves_a_stranger_with_the_servers_number_alone(t *testing.T) {
	apart(t)
	stranger := exec.Command("cat")
	group(stranger)
	in, err := stranger.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = in.Close()
		if err := stranger.Wait(); err != nil {
			t.Errorf("the stranger ended with %v", err)
		}
	}()
	dir := t.TempDir()
	s := &Server{kind: NATS, name: "nats", in: Instance{Dir: dir}, detached: true, proc: &process{pid: stranger.Process.Pid, born: "1"}}
	if err := s.save(); err != nil {
		t.Fatal(err)
	}
	if err := inBackground(t).Close(); err != nil {
		t.Fatal(err)
	}
	if !running(stranger.Process.Pid) || isDir(dir) {
		t.Errorf("after down the stranger runs: %v, the directory is there: %v", running(stranger.Process.Pid), isDir(dir))
	}
}
