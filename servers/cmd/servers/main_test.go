package main

import (
	"os"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/internal/leak"
	"github.com/dovetail-go/dovetail/servers"
)

func TestMain(m *testing.M) { os.Exit(leak.Main(m)) }

func TestChoose_takes_all_but_those_named(t *testing.T) {
	for _, tt := range []struct{ args, want string }{
		{"", "nats rabbitmq kafka postgres"},
		{"nats", "nats"},
		{"postgres nats", "postgres nats"},
		{"--without kafka", "nats rabbitmq postgres"},
		{"--without=kafka,rabbitmq", "nats postgres"},
		{"nats kafka --without kafka", "nats"},
		{"oracle", `no server is called "oracle": there are nats, rabbitmq, kafka, postgres`},
		{"--without", "--without needs the name of a server after it"},
		{"nats --without nats", "--without leaves no server"},
	} {
		kinds, err := choose(strings.Fields(tt.args))
		got := strings.Join(names(kinds), " ")
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%q: %s, want %s", tt.args, got, tt.want)
		}
	}
}

func TestRun_tells_of_servers_that_are_not_there(t *testing.T) {
	t.Setenv(servers.CacheVar, t.TempDir())
	var out strings.Builder
	if err := run(t.Context(), nil, &out); err != nil || !strings.Contains(out.String(), "nats, rabbitmq, kafka, postgres") {
		t.Errorf("help: %v\n%s", err, out.String())
	}
	out.Reset()
	if err := run(t.Context(), []string{"status", "nats"}, &out); err != nil || !strings.Contains(out.String(), "start it with up nats") {
		t.Errorf("status: %v\n%s", err, out.String())
	}
	if err := run(t.Context(), []string{"down"}, &out); err != nil {
		t.Errorf("down without any: %v", err)
	}
	if err := run(t.Context(), []string{"kill", "nats"}, &out); err == nil {
		t.Error("killing what is not there is no error")
	}
	if err := run(t.Context(), []string{"fly"}, &out); err == nil || !strings.Contains(err.Error(), `no command "fly"`) {
		t.Errorf("an unknown command: %v", err)
	}
}
