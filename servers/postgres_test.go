package servers

import (
	"os/exec"
	"strings"
	"testing"
)

func TestPostgres_keeps_what_was_committed_before_a_kill(t *testing.T) {
	t.Parallel()
	s := Start(t, Postgres)
	if !strings.HasPrefix(s.URL(), "postgres://postgres@127.0.0.1:") || s.Version() == "" {
		t.Errorf("URL %q, version %q", s.URL(), s.Version())
	}
	url := s.URL()
	psql(t, s, "CREATE TABLE kept (n int)")
	psql(t, s, "INSERT INTO kept VALUES (1), (2)")
	if got := psql(t, s, "SHOW wal_level") + psql(t, s, "SHOW fsync") + psql(t, s, "SHOW synchronous_commit"); got != "logicalonon" {
		t.Errorf("wal_level, fsync and synchronous_commit are %s", got)
	}
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := s.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if s.URL() != url {
		t.Errorf("after a restart the URL is %s, was %s", s.URL(), url)
	}
	if got := psql(t, s, "SELECT sum(n) FROM kept"); got != "3" {
		t.Errorf("after a kill and a restart the sum is %q, want 3", got)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

func psql(t *testing.T, s *Server, query string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), postgresBin("psql"), "-XAtc", query, s.URL()).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v: %s", query, err, out)
	}
	return strings.TrimSpace(string(out))
}
