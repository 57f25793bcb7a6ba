package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/jackc/pgx/v5"
	"github.com/rogpeppe/go-internal/testscript"
)

// The same scripts run on every broker with PostgreSQL, each broker's one after
// the other and the brokers side by side.

func TestScripts_on_NATS(t *testing.T) {
	onServers(t, func() string { return servers.Shared(t, servers.NATS).URL() + "?partitions=4" })
}

func TestScripts_on_RabbitMQ(t *testing.T) {
	const management = "&management=http://127.0.0.1:"
	listing := func() string {
		s := servers.Shared(t, servers.RabbitMQ)
		return s.URL() + "?partitions=4" + management + managementPort(t, s)
	}
	onServers(t, listing)
	runScripts(inTurn{t}, "testdata/unlisted", func(env *testscript.Env) error {
		env.Setenv("CLEAR", listing())
		without, _, _ := strings.Cut(listing(), management)
		env.Setenv("DOVETAIL_BROKER", without)
		return nil
	})
}

func TestScripts_on_Kafka(t *testing.T) {
	onServers(t, func() string { return servers.Shared(t, servers.Kafka).URL() + "?partitions=4" })
}

func onServers(t *testing.T, broker func() string) {
	t.Parallel()
	address, store := broker(), servers.Shared(t, servers.Postgres).URL()
	runScripts(inTurn{t}, "testdata/servers", func(env *testscript.Env) error {
		env.Setenv("DOVETAIL_BROKER", address)
		env.Setenv("CLEAR", address)
		env.Setenv("STORE", fmt.Sprintf("%s&schema=t%08x", store, rand.Uint32()))
		return nil
	})
}

// managementPort finds the management plugin in the server's configuration.
func managementPort(t *testing.T, s *servers.Server) string {
	t.Helper()
	conf, err := os.ReadFile(filepath.Join(s.Dir(), "rabbitmq.conf"))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`management\.tcp\.port = (\d+)`).FindSubmatch(conf)
	if m == nil {
		t.Fatal("the server has no management plugin")
	}
	return string(m[1])
}

// inTurn runs scripts one after the other.
type inTurn struct{ *testing.T }

func (t inTurn) Run(name string, f func(testscript.T)) {
	t.T.Run(name, func(t *testing.T) { f(inTurn{t}) })
}
func (inTurn) Parallel()     {}
func (inTurn) Verbose() bool { return testing.Verbose() }

// clearedCommand: cleared. Removes all channels from the script's broker when
// what comes after it in the script has ended.
func clearedCommand(ts *testscript.TestScript, neg bool, args []string) {
	ts.Defer(func() {
		ctx := context.Background()
		conn, err := driver.Open(ctx, ts.Getenv("CLEAR"))
		ts.Check(err)
		defer conn.Close(ctx)
		all, err := conn.(driver.Lister).Channels(ctx)
		ts.Check(err)
		for _, c := range all {
			if err := conn.(driver.Remover).RemoveChannel(ctx, c.Channel.Name); !errors.Is(err, driver.ErrNotFound) {
				ts.Check(err)
			}
		}
	})
}

// A tail is a dovetail tail that runs beside the script.
type tail struct {
	cmd *exec.Cmd
	out bytes.Buffer
}

type tailKey struct{}

// tailCommand: tail ARGS... Starts dovetail tail and waits until it follows.
func tailCommand(ts *testscript.TestScript, neg bool, args []string) {
	path, err := lookIn(ts.Getenv("PATH"), "dovetail")
	ts.Check(err)
	t := ts.Value(tailKey{}).(*tail)
	t.cmd = exec.Command(path, append([]string{"tail"}, args...)...)
	t.cmd.Env = append(os.Environ(), "DOVETAIL_BROKER="+ts.Getenv("DOVETAIL_BROKER"), "XDG_CONFIG_HOME="+ts.Getenv("XDG_CONFIG_HOME"), "HOME="+ts.Getenv("HOME"))
	t.cmd.Stdout = &t.out
	said, err := t.cmd.StderrPipe()
	ts.Check(err)
	ts.Check(t.cmd.Start())
	ts.Defer(func() { _ = t.cmd.Process.Kill() }) // one that has ended has nothing to end
	lines := bufio.NewScanner(said)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "following ") {
		ts.Fatalf("the tail says %q, %v: want that it follows", lines.Text(), t.cmd.Wait())
	}
}

// tailedCommand: tailed FILE. Waits until the tail has ended and writes what it
// has seen.
func tailedCommand(ts *testscript.TestScript, neg bool, args []string) {
	t := ts.Value(tailKey{}).(*tail)
	ts.Check(t.cmd.Wait())
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), t.out.Bytes(), 0o600))
}

// relationsCommand: relations STORE N. The schema that the URL names holds so many
// tables, indexes and sequences.
func relationsCommand(ts *testscript.TestScript, neg bool, args []string) {
	u, err := url.Parse(args[0])
	ts.Check(err)
	s, err := parsePostgres(u)
	ts.Check(err)
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, s.url)
	ts.Check(err)
	defer conn.Close(ctx)
	var n int
	ts.Check(conn.QueryRow(ctx, `SELECT count(*) FROM pg_class WHERE relnamespace = $1::regnamespace`, s.schema).Scan(&n))
	if fmt.Sprint(n) != args[1] {
		ts.Fatalf("%d relations in schema %s, want %s", n, s.schema, args[1])
	}
}
