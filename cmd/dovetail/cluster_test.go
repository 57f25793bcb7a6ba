package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// scripted starts a cluster of one node that a shell script stands in for.
func scripted(t *testing.T, script string) *cluster {
	self := filepath.Join(t.TempDir(), "dovetail")
	if err := os.WriteFile(self, []byte("#!/bin/sh\nread job\necho ready\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	c, err := startCluster(t.Context(), self, []string{"node-1"}, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.close)
	return c
}

func TestCluster_says_what_a_node_said_that_does_not_stop_in_good_order(t *testing.T) {
	c := scripted(t, "read end\necho its store is full >&2\nexit 3\n")
	if err := c.do(t.Context(), "stop", "node-1"); err == nil || err.Error() != "exit status 3: its store is full" {
		t.Errorf("%v, want what it said", err)
	}
}

func TestCluster_says_that_a_node_has_ended_by_itself(t *testing.T) {
	for _, do := range []string{"kill", "stop", "pause"} {
		c := scripted(t, "echo it panicked >&2\nexit 3\n")
		<-c.nodes[0].ended
		if err := c.do(t.Context(), do, "node-1"); err == nil || !strings.Contains(err.Error(), "it has ended by itself\nexit status 3: it panicked") {
			t.Errorf("%s: %v, want that it has ended by itself", do, err)
		}
		if err := c.do(context.Background(), "restart", "node-1"); err != nil {
			t.Errorf("after %s it does not come back: %v", do, err)
		}
	}
}
