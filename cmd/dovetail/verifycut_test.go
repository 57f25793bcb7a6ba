package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestVerify_refuses_cuts_that_a_cluster_leads_around(t *testing.T) {
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	self := filepath.Join(t.TempDir(), "dovetail") // the test binary is the program under this name
	if err := os.Symlink(exe, self); err != nil {
		t.Fatal(err)
	}
	c, err := startCluster(t.Context(), self, clusterNames(3), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	all := c.url()
	hosts, query, _ := strings.Cut(strings.TrimPrefix(all, "nats://"), "?")
	first, _, _ := strings.Cut(hosts, ",")
	if err := checkCut(t.Context(), "nats://"+first+"?"+query); err == nil || !strings.Contains(err.Error(), "Name all nodes in --broker") {
		t.Errorf("%v, want that clients reconnect to other nodes", err)
	}
	if err := checkCut(t.Context(), all); err != nil {
		t.Errorf("%v, though all nodes are named, and no connection to them is cut", err)
	}
}
