package servers

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
)

// asked returns what a node answers to a query.
func asked(t *testing.T, s *Server, query string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	answer, _, err := postgresAsk(ctx, &s.in, query)
	if err != nil {
		t.Fatalf("%s: %s: %v", s.Name(), query, err)
	}
	return answer
}

func TestPair_of_PostgreSQL_fails_over_and_back(t *testing.T) {
	c := StartCluster(t, Postgres, 2)
	first, second := c.Nodes()[0], c.Nodes()[1]
	if err := tell(t.Context(), &first.in, `CREATE TABLE kept (n int)`, `INSERT INTO kept VALUES (1)`); err != nil {
		t.Fatal(err)
	}
	// The commit has waited, so the standby has it, whether it shows it yet or not.
	if err := first.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.Promote(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if got := asked(t, second, `SELECT n FROM kept`); got != "1" {
		t.Errorf("the new primary has %q, want 1", got)
	}
	if err := tell(t.Context(), &second.in, `UPDATE kept SET n = 2`); err != nil {
		t.Fatal(err)
	}
	if err := c.Promote(t.Context(), second); err == nil || !strings.Contains(err.Error(), "is the primary") {
		t.Errorf("it is promoted twice: %v", err)
	}
	if err := first.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := asked(t, first, `SELECT pg_is_in_recovery()`); got != "t" {
		t.Error("the old primary is one still")
	}
	if err := c.pair(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := tell(t.Context(), &second.in, `UPDATE kept SET n = 3`); err != nil {
		t.Fatal(err)
	}
	if err := second.Close(); err != nil { // for good
		t.Fatal(err)
	}
	if err := c.Promote(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	if got := asked(t, first, `SELECT n FROM kept`); got != "3" {
		t.Errorf("the first node has %q, want 3", got)
	}
}

func TestPair_commits_nothing_without_its_standby(t *testing.T) {
	c := StartCluster(t, Postgres, 2)
	first, second := c.Nodes()[0], c.Nodes()[1]
	if err := second.Kill(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := tell(ctx, &first.in, `CREATE TABLE waiting ()`); err == nil {
		t.Error("a commit does not wait for the standby")
	}
	if err := tell(t.Context(), &first.in, aloneSQL, reloadSQL, `CREATE TABLE done ()`); err != nil {
		t.Errorf("it does not go on alone: %v", err)
	}
}

func TestLaunchCluster_refuses_three_nodes_of_PostgreSQL(t *testing.T) {
	if _, err := LaunchCluster(t.Context(), Postgres, 3); err == nil || !strings.Contains(err.Error(), "want 2") {
		t.Error(err)
	}
	c := &Cluster{kind: NATS.(Clustered), nodes: []*Server{{name: "nats-1"}}}
	if err := c.Promote(t.Context(), c.nodes[0]); err == nil || !strings.Contains(err.Error(), "chooses its leader itself") {
		t.Error(err)
	}
}

// failOver runs a FailOver until the test ends. until waits for what it says.
func failOver(t *testing.T, c *Cluster) (ctx context.Context, after time.Duration, until func(lead *Server, paired bool)) {
	t.Helper()
	f := &FailOver{Pair: c, After: 2 * time.Second, Say: func(text string) { t.Log(text) }}
	ctx, stop := context.WithCancel(t.Context())
	var watching sync.WaitGroup
	watching.Go(func() { f.Run(ctx) })
	t.Cleanup(func() {
		stop()
		watching.Wait()
	})
	return ctx, f.After, func(want *Server, paired bool) {
		t.Helper()
		ctx, cancel := context.WithTimeout(ctx, readyTime)
		defer cancel()
		err := poll(ctx, 20*time.Millisecond, func() bool {
			lead, is := f.State()
			return lead == want && is == paired
		})
		if err != nil {
			t.Fatalf("it does not come to %s, paired %v: %v", want.Name(), paired, err)
		}
	}
}

// A standby that answers and gets nothing keeps commits waiting like one that is
// gone.
func TestFailOver_goes_on_alone_beside_a_standby_that_gets_nothing(t *testing.T) {
	c := StartCluster(t, Postgres, 2)
	first, second := c.Nodes()[0], c.Nodes()[1]
	ctx, _, until := failOver(t, c)
	until(first, true)
	conninfo := strings.ReplaceAll(asked(t, second, `SHOW primary_conninfo`), "'", "''")
	if err := tell(ctx, &second.in, `ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'`, reloadSQL); err != nil {
		t.Fatal(err)
	}
	until(first, false)
	soon, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	if err := tell(soon, &first.in, `CREATE TABLE alone ()`); err != nil {
		t.Errorf("a commit beside a standby that gets nothing: %v", err)
	}
	if err := tell(ctx, &second.in, `ALTER SYSTEM SET primary_conninfo = '`+conninfo+`'`, reloadSQL); err != nil {
		t.Fatal(err)
	}
	until(first, true)
}

// A standby that commits had not waited for is not promoted: it may lack some.
func TestFailOver_promotes_only_a_standby_that_has_everything(t *testing.T) {
	c := StartCluster(t, Postgres, 2)
	first, second := c.Nodes()[0], c.Nodes()[1]
	ctx, after, until := failOver(t, c)
	do := func(errs ...error) {
		t.Helper()
		if err := errors.Join(errs...); err != nil {
			t.Fatal(err)
		}
	}
	until(first, true)
	do(second.Kill())
	until(first, false)
	do(tell(ctx, &first.in, `CREATE TABLE alone ()`), first.Kill())
	up, cancel := context.WithTimeout(ctx, 3*after)
	defer cancel()
	if err := second.Restart(up); err == nil {
		t.Error("a standby without a primary is ready")
	}
	until(first, false)
	do(first.Restart(ctx), second.Restart(ctx))
	until(first, true)
	do(first.Kill())
	until(second, false)
	if got := asked(t, second, `SELECT count(*) FROM alone`); got != "0" {
		t.Errorf("the table that was made while it was away: %q", got)
	}
}
