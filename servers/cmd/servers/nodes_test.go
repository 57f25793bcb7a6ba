package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/servers"
)

func TestReadNodes_reads_their_number_and_their_names(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"nats", "[nats] map[] 0"},
		{"--nodes 3 nats", "[nats] map[] 3"},
		{"nats kafka --nodes=5", "[nats kafka] map[] 5"},
		{"nats-2", "[nats] map[nats:[nats-2]] 0"},
		{"nats-2 kafka nats-3", "[nats kafka] map[nats:[nats-2 nats-3]] 0"},
		{"--nodes", "--nodes needs a number after it"},
		{"--nodes one", "--nodes one: want 2 or more"},
		{"--nodes=1", "--nodes 1: want 2 or more"},
	} {
		rest, nodes, err := readNodes(strings.Fields(tt.args))
		rest, only := readNode(rest)
		got := fmt.Sprint(rest, only, nodes)
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%q: %s, want %s", tt.args, got, tt.want)
		}
	}
}

func cache(t *testing.T) string {
	t.Helper()
	dir, err := servers.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// running returns a function that runs a command and wants something in what it
// prints, or in its error.
func running(t *testing.T) func(want string, args ...string) {
	return func(want string, args ...string) {
		t.Helper()
		var out strings.Builder
		err := run(t.Context(), args, &out)
		text := out.String()
		if err != nil {
			text = err.Error()
		}
		if !strings.Contains(text, want) {
			t.Errorf("servers %s: %s, want %q", strings.Join(args, " "), text, want)
		}
	}
}

func TestRun_works_on_nodes(t *testing.T) {
	if err := servers.Install(t.Context(), servers.NATS); err != nil {
		t.Fatal(err)
	}
	run := running(t)
	program := filepath.Join(cache(t), "nats-server-*")
	found, err := filepath.Glob(program)
	if err != nil || len(found) == 0 {
		t.Fatalf("no %s: %v", program, err)
	}
	dir := t.TempDir()
	t.Setenv(servers.CacheVar, dir) // a cache of its own: these servers are nobody else's
	for _, name := range found {
		if err := os.Symlink(name, filepath.Join(dir, filepath.Base(name))); err != nil {
			t.Fatal(err)
		}
	}
	run("nats-3", "up", "nats", "--nodes", "3")
	run("nats-2    kill", "kill", "nats-2")
	run("it is down", "status", "nats")
	run("?replicas=3", "env", "nats")
	run("nats-2    restart", "restart", "nats-2")
	run("chooses its leader itself", "promote", "nats-1")
	run("nats-3    down", "down", "nats-3")
	run("there is no nats-3", "kill", "nats-3")
	run("nats-1    down", "down", "nats")
	run("start it with up nats", "status", "nats")
	run("--nodes is for up", "down", "--nodes", "3")
	run("want 2", "up", "postgres", "--nodes", "3")
	run("promote needs the name of one node", "promote")
	run("is not in the background", "promote", "postgres-2")
}

func TestRun_works_on_a_pair_of_PostgreSQL(t *testing.T) {
	if err := servers.Install(t.Context(), servers.Postgres); err != nil {
		t.Fatal(err)
	}
	t.Setenv(servers.CacheVar, t.TempDir())
	run := running(t)
	run("postgres-2", "up", "postgres", "--nodes", "2")
	defer run("postgres-1", "down", "postgres")
	run("target_session_attrs=read-write", "env", "postgres")
	run("it is the primary", "promote", "postgres-1")
	run("postgres-1 kill", "kill", "postgres-1")
	run("it follows no primary", "status", "postgres")
	run("postgres-2 promoted", "promote", "postgres-2")
	run("ready at", "up", "postgres", "--nodes", "2")
	run("postgres-1 promoted", "promote", "postgres-1")
	run("there is no postgres-3", "promote", "postgres-3")
}
