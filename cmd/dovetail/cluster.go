package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/dovetail-go/dovetail/verify"
)

// A cluster is NATS servers that work as one, each a process of this program.
type cluster struct {
	nodes []*clusterNode
}

// A clusterNode is one of them. One thing is done to it at a time.
type clusterNode struct {
	job  nodeJob
	self string

	mu    sync.Mutex
	cmd   *exec.Cmd // nil while it is away
	stdin io.Closer
	ended chan struct{} // closed when the process has
	err   error         // how it ended, with what it said
}

func clusterNames(count int) (names []string) {
	for i := range count {
		names = append(names, fmt.Sprintf("node-%d", i+1))
	}
	return names
}

// startCluster starts nodes with empty data below dir, and returns when they have
// a leader.
func startCluster(ctx context.Context, self string, names []string, dir string) (*cluster, error) {
	ports, err := freePorts(2 * len(names))
	if err != nil {
		return nil, err
	}
	c, token := &cluster{}, rand.Text()
	for i, name := range names {
		c.nodes = append(c.nodes, &clusterNode{self: self, job: nodeJob{Name: name, Dir: filepath.Join(dir, name),
			Port: ports[i], Route: ports[len(names)+i], Routes: ports[len(names):], Token: token}})
	}
	errs := make([]error, len(names))
	var all sync.WaitGroup
	for i, name := range names {
		all.Go(func() { errs[i] = c.do(ctx, "restart", name) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		c.close()
		return nil, fmt.Errorf("start a cluster of %d nodes: %w", len(names), err)
	}
	return c, nil
}

// url reaches every node, and has each of them keep what is sent.
func (c *cluster) url() string {
	var addrs []string
	for _, n := range c.nodes {
		addrs = append(addrs, fmt.Sprintf("%s:%d", loopback, n.job.Port))
	}
	return fmt.Sprintf("nats://%s?replicas=%d&partitions=4&ack-wait=10s&token=%s", strings.Join(addrs, ","), len(addrs), c.nodes[0].job.Token)
}

// do does one thing to one node; see verify.Options.Node.
func (c *cluster) do(ctx context.Context, do, node string) error {
	for _, n := range c.nodes {
		if n.job.Name == node {
			n.mu.Lock()
			defer n.mu.Unlock()
			return n.do(ctx, do)
		}
	}
	return errors.New("there is no such node")
}

func (n *clusterNode) do(ctx context.Context, do string) error {
	if do != "restart" {
		if err := n.runs(); err != nil {
			return err
		}
	}
	switch do {
	case "kill":
		n.kill()
	case "stop":
		_ = n.stdin.Close() // one that has ended is met below
		cmd := n.cmd
		n.cmd = nil
		giveUp := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
		defer giveUp()
		<-n.ended
		return n.err
	case "pause":
		return verify.Freeze(n.cmd.Process)
	case "resume":
		return verify.Thaw(n.cmd.Process)
	case "restart":
		n.kill()
		return n.start(ctx)
	}
	return nil
}

// runs says why nothing can be done to a node that does not run.
func (n *clusterNode) runs() error {
	if n.cmd == nil {
		return errors.New("it does not run")
	}
	select {
	case <-n.ended:
		return errors.Join(errors.New("it has ended by itself"), n.err)
	default:
		return nil
	}
}

// kill ends a node at once.
func (n *clusterNode) kill() {
	if n.cmd == nil {
		return
	}
	_ = n.cmd.Process.Kill()
	<-n.ended // that it was killed is no news
	_ = n.stdin.Close()
	n.cmd = nil
}

// start starts a node on its data, and returns when it says that it is well.
func (n *clusterNode) start(ctx context.Context) error {
	cmd := exec.Command(n.self, "verify", "node")
	verify.Apart(cmd)
	var said bytes.Buffer
	cmd.Stderr = &said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	n.cmd, n.stdin, n.ended = cmd, stdin, make(chan struct{})
	giveUp := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer giveUp()
	_ = json.NewEncoder(stdin).Encode(n.job) // one that has ended is met below
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	go n.wait(cmd, &said, n.ended) // ends with the process, for which kill and stop wait
	if line != nodeReady {
		n.kill()
		return fmt.Errorf("it does not come up: %w", n.err)
	}
	return nil
}

// wait waits for the end of a node's process.
func (n *clusterNode) wait(cmd *exec.Cmd, said *bytes.Buffer, ended chan struct{}) {
	defer close(ended)
	if n.err = cmd.Wait(); n.err != nil && said.Len() > 0 {
		n.err = fmt.Errorf("%w: %s", n.err, bytes.TrimSpace(said.Bytes()))
	}
}

// close ends all nodes.
func (c *cluster) close() {
	for _, n := range c.nodes {
		n.mu.Lock()
		n.kill()
		n.mu.Unlock()
	}
}

// freePorts are free on loopback, and below those that the system gives to outgoing
// connections: a client could get that of a node that is away.
func freePorts(count int) (ports []int, err error) {
	const first, last = 20000, 31999
	for range 1000 {
		port := first + mathrand.IntN(last-first+1)
		l, err := net.Listen("tcp", fmt.Sprintf("%s:%d", loopback, port))
		if err != nil {
			continue
		}
		defer l.Close() // so that none is found twice
		if ports = append(ports, port); len(ports) == count {
			return ports, nil
		}
	}
	return nil, fmt.Errorf("find %d free ports between %d and %d on %s", count, first, last, loopback)
}
