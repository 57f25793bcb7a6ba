package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/spf13/cobra"
)

// A nodeJob is what a node of a cluster is told: a line of JSON on its standard
// input, where no other user can read the token.
type nodeJob struct {
	Name   string `json:"name"`
	Dir    string `json:"dir"`
	Port   int    `json:"port"`
	Route  int    `json:"route"`  // the port for the other nodes
	Routes []int  `json:"routes"` // of all nodes
	Token  string `json:"token"`
}

const (
	nodeReady    = "ready\n" // what a node says once it has a leader and is up to date with it
	nodePatience = time.Minute
	loopback     = "127.0.0.1"
)

// verifyNode is the program as one node of a verification's cluster.
func (a *app) verifyNode() *cobra.Command {
	return &cobra.Command{
		Use:     "node",
		Short:   "Run one node of a verification's cluster; dovetail verify --nodes itself calls it",
		Example: "  dovetail verify --nodes 3",
		Hidden:  true,
		Args:    arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			// A Ctrl-C is for the process that started this one, which ends it.
			return serveNode(context.WithoutCancel(cmd.Context()), a.in, bare(a.out))
		},
	}
}

// serveNode runs a node until its input ends, which happens in whatever way the
// process that started it ends.
func serveNode(ctx context.Context, in io.Reader, out io.Writer) error {
	var j nodeJob
	if err := json.NewDecoder(in).Decode(&j); err != nil {
		return fmt.Errorf("read what to do from standard input: %w: this command is for dovetail verify itself", err)
	}
	if err := os.MkdirAll(j.Dir, 0o700); err != nil {
		return err
	}
	o := j.options()
	ns, err := server.NewServer(o)
	if err != nil {
		return err
	}
	ns.ConfigureLogger()
	ns.Start()
	defer ns.WaitForShutdown()
	defer ns.Shutdown()
	ctx, cancel := context.WithTimeout(ctx, nodePatience)
	defer cancel()
	for !ns.ReadyForConnections(100*time.Millisecond) || !ns.JetStreamIsCurrent() {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			log, _ := os.ReadFile(o.LogFile)
			return fmt.Errorf("not well after %v; its log ends with: %s", nodePatience, log[max(0, len(log)-1000):])
		}
	}
	if _, err := io.WriteString(out, nodeReady); err != nil {
		return err
	}
	_, _ = io.Copy(io.Discard, in) // until its end
	return nil
}

// options are those of a server that knows the others of its cluster. Its name is
// always the same, for by it the others know it.
func (j *nodeJob) options() *server.Options {
	o := &server.Options{
		ServerName: j.Name, Host: loopback, Port: j.Port, Authorization: j.Token, MaxPayload: 4 << 20, MaxPending: 256 << 20,
		JetStream: true, StoreDir: j.Dir, LogFile: filepath.Join(j.Dir, "log"), NoSigs: true,
		Cluster: server.ClusterOpts{Name: "verify", Host: loopback, Port: j.Route, Username: "node", Password: j.Token},
	}
	for _, port := range j.Routes {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: fmt.Sprintf("%s:%d", loopback, port), User: url.UserPassword("node", j.Token)})
	}
	return o
}
