//go:build unix

package servers

import (
	"context"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// Whether commits wait is what the checkpointer says. Until it has read the
// settings, other processes show a synchronous standby that no commit waits for.
func TestPair_is_one_when_the_checkpointer_says_so(t *testing.T) {
	c := StartCluster(t, Postgres, 2)
	first := c.Nodes()[0]
	if err := tell(t.Context(), &first.in, aloneSQL, reloadSQL, checkpointSQL); err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(asked(t, first, `SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'`))
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(pid, syscall.SIGCONT) // in a test that failed
	for i := range 4 {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if ok, _ := c.Pair(ctx); ok {
			t.Errorf("asked for the %d. time, it is a pair, and commits do not wait", i+1)
		}
		cancel()
	}
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := c.pair(t.Context()); err != nil {
		t.Error(err)
	}
}
