package servers

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
)

// A Cluster is several servers of one kind on this machine that work as one. Its
// nodes are servers like any other: each can be killed, stopped, paused, resumed
// and restarted by itself, and one that is closed is lost for good, with its data.
//
// Its methods are safe for concurrent use.
type Cluster struct {
	kind   Clustered
	nodes  []*Server
	helper *Server // nil where the kind needs none
}

// LaunchCluster installs what is missing and starts a cluster of so many nodes
// with new, empty data. It returns when all of them answer. The caller has to
// Close it; it also ends when this process does.
func LaunchCluster(ctx context.Context, k Kind, nodes int) (*Cluster, error) {
	return launchCluster(ctx, k, nodes, false)
}

// StartCluster starts a cluster for one test, which fails when it cannot be had.
// The cluster ends with the test; when the test failed, the end of each node's log
// is in its output.
func StartCluster(t testing.TB, k Kind, nodes int) *Cluster {
	t.Helper()
	c, err := LaunchCluster(t.Context(), k, nodes)
	if err != nil {
		t.Fatal(err)
	}
	logVersion(t, c.nodes[0])
	t.Cleanup(func() {
		for _, s := range c.nodes {
			if t.Failed() && isDir(s.in.Dir) {
				t.Logf("the log of %s ends with:\n%s", s.name, s.Log(12))
			}
		}
		if err := c.Close(); err != nil {
			t.Errorf("close the cluster of %s: %v", k.Name(), err)
		}
	})
	return c
}

// clustered returns k as one that can be a cluster of so many nodes.
func clustered(k Kind, nodes int) (Clustered, error) {
	c, ok := k.(Clustered)
	switch {
	case !ok:
		return nil, fmt.Errorf("%s cannot be a cluster here: leave the number of nodes out", k.Name())
	case c.MostNodes() == 2 && nodes != 2:
		return nil, fmt.Errorf("a cluster of %d nodes of %s: want 2", nodes, k.Name())
	case nodes < 2 || nodes > c.MostNodes():
		return nil, fmt.Errorf("a cluster of %d nodes of %s: want 2 to %d", nodes, k.Name(), c.MostNodes())
	}
	return c, nil
}

// maxNodes is how many nodes a cluster may have: one machine runs them all.
const maxNodes = 9

func launchCluster(ctx context.Context, k Kind, nodes int, detached bool) (_ *Cluster, err error) {
	kind, err := clustered(k, nodes)
	if err != nil {
		return nil, err
	}
	if err := Install(ctx, k); err != nil {
		return nil, err
	}
	c := &Cluster{kind: kind}
	defer func() {
		if err != nil {
			err = errors.Join(err, c.Close())
		}
	}()
	if helper := kind.Helper(); helper != nil {
		if c.helper, err = launch(ctx, helper, detached); err != nil {
			return nil, err
		}
	}
	for i := range nodes {
		s := &Server{kind: k, name: nodeName(k, i), detached: detached}
		s.in.Node = i
		c.nodes = append(c.nodes, s)
		if err := s.place(); err != nil {
			return nil, err
		}
	}
	c.introduce()
	if _, copies := k.(postgres); copies { // the standby begins as a copy of the primary
		if err := c.nodes[0].begin(ctx); err != nil {
			return nil, err
		}
		return c, c.nodes[1].begin(ctx)
	}
	return c, c.each(func(s *Server) error { return s.begin(ctx) })
}

// nodeName is the name of node i of a cluster.
func nodeName(k Kind, i int) string { return fmt.Sprintf("%s-%d", k.Name(), i+1) }

// introduce tells the nodes of each other.
func (c *Cluster) introduce() {
	all := c.instances()
	for _, s := range c.nodes {
		s.in.Nodes = all
		if c.helper != nil {
			s.in.Helper = &c.helper.in
		}
	}
}

func (c *Cluster) instances() (all []*Instance) {
	for _, s := range c.nodes {
		all = append(all, &s.in)
	}
	return all
}

// each calls f for all nodes at once.
func (c *Cluster) each(f func(*Server) error) error {
	errs := make([]error, len(c.nodes))
	var wg sync.WaitGroup
	for i, s := range c.nodes {
		wg.Go(func() { errs[i] = f(s) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Name returns the name of the cluster's kind.
func (c *Cluster) Name() string { return c.kind.Name() }

// Nodes returns the servers that the cluster consists of, always in the same
// order, those that are lost included. The caller must not change the slice.
func (c *Cluster) Nodes() []*Server { return c.nodes }

// URL returns what a client connects to that is to reach every node, with as many
// copies of what it makes as there are nodes.
func (c *Cluster) URL() string { return c.kind.ClusterURL(c.instances()) }

// Close kills all nodes and removes their data. Closing twice is fine.
func (c *Cluster) Close() error {
	err := c.each((*Server).Close)
	if c.helper != nil {
		err = errors.Join(err, c.helper.Close())
	}
	return err
}
