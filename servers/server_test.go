package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
)

// broken is a kind that a test makes go wrong.
type broken struct {
	script  string // the server
	install func(log io.Writer) error
}

func (broken) Name() string                                     { return "broken" }
func (broken) Ports() []string                                  { return []string{"one", "two"} }
func (b broken) Installed() bool                                { return b.install == nil }
func (b broken) Install(_ context.Context, log io.Writer) error { return b.install(log) }
func (broken) Prepare(context.Context, *Instance) error         { return nil }
func (b broken) Command(*Instance) Command                      { return Command{Args: []string{"sh", "-c", b.script}} }
func (broken) URL(in *Instance) string                          { return "broken://" + in.Addr("one") }
func (broken) Probe(context.Context, *Instance) (string, error) {
	return "", errors.New("nobody there")
}

func TestLaunch_says_why_a_server_ended(t *testing.T) {
	_, err := Launch(t.Context(), broken{script: "echo the port is gone; echo $HOME >&2; exit 3"})
	if err == nil {
		t.Fatal("it started")
	}
	for _, want := range []string{"start broken: it ended before it answered", "exit status 3", "nobody there", "    the port is gone\n", os.TempDir()} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the error does not say %q: %v", want, err)
		}
	}
}

func TestLaunch_ends_what_it_started_when_its_context_ends(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	k := starting{broken{script: "sleep 1000 & sleep 1000"}, make(chan *Instance, 1)}
	done := make(chan error, 1)
	go func() {
		_, err := Launch(ctx, k)
		done <- err
	}()
	in := <-k.probed
	cancel(errors.New("enough"))
	if err := <-done; err == nil || !strings.Contains(err.Error(), "enough") {
		t.Errorf("it returned %v, want the context's cause", err)
	}
	if isDir(in.Dir) {
		t.Error("its directory is still there")
	}
}

// starting tells of the first probe.
type starting struct {
	broken
	probed chan *Instance
}

func (s starting) Probe(ctx context.Context, in *Instance) (string, error) {
	select {
	case s.probed <- in:
	default:
	}
	return s.broken.Probe(ctx, in)
}

func TestInstall_says_how_it_went_wrong(t *testing.T) {
	t.Setenv(CacheVar, t.TempDir())
	err := Install(t.Context(), broken{install: func(log io.Writer) error {
		_, _ = fmt.Fprintln(log, "no such package")
		return errors.New("apt-get: exit status 100")
	}})
	if err == nil || !strings.Contains(err.Error(), "install broken: apt-get: exit status 100") ||
		!strings.Contains(err.Error(), "no such package") {
		t.Errorf("it says %v", err)
	}
	err = Install(t.Context(), broken{install: func(io.Writer) error { return nil }})
	if err == nil || !strings.Contains(err.Error(), "yet it is not there") {
		t.Errorf("an installation without effect says %v", err)
	}
}

func TestByName_lists_the_names(t *testing.T) {
	for _, k := range Kinds() {
		if got, err := ByName(k.Name()); err != nil || got != k {
			t.Errorf("%s: %v, %v", k.Name(), got, err)
		}
	}
	if _, err := ByName("oracle"); err == nil || !strings.Contains(err.Error(), "nats, rabbitmq, kafka, postgres") {
		t.Errorf("an unknown name says %v", err)
	}
}

func TestServer_pauses_with_its_connections_open(t *testing.T) {
	t.Parallel()
	s := Start(t, NATS)
	conn, err := dial(t.Context(), s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := receive(conn, len("INFO "), slow); err != nil {
		t.Fatal(err)
	}
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	another, err := dial(t.Context(), s.Addr())
	if err != nil {
		t.Fatalf("a paused server's port is closed: %v", err)
	}
	defer another.Close()
	if got, err := receive(another, 1, moment); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a paused server says %q, %v", got, err)
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	if _, err := receive(another, len("INFO "), slow); err != nil {
		t.Errorf("after Resume: %v", err)
	}
	if err := s.Answers(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	for name, err := range map[string]error{"Pause": s.Pause(), "Resume": s.Resume(), "Answers": s.Answers(t.Context())} {
		if err == nil {
			t.Errorf("%s of a server that was killed is no error", name)
		}
	}
	if err := errors.Join(s.Kill(), s.Stop(t.Context()), s.Close(), s.Close()); err != nil {
		t.Errorf("ending it again: %v", err)
	}
	if err := s.Restart(t.Context()); err == nil {
		t.Error("a closed server starts again")
	}
}
