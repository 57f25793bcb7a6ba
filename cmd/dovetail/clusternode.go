package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/spf13/cobra"
)

// A nodeJob is what a node of a cluster is told: a line of JSON on its standard
// input, where no other user can read the token.
type nodeJob struct {
	Name   string   `json:"name"`
	Dir    string   `json:"dir"`
	Listen string   `json:"listen"`
	Route  string   `json:"route"`  // where it listens for the other nodes
	Routes []string `json:"routes"` // of all nodes
	Token  string   `json:"token"`
}

const (
	nodeReady    = "ready\n" // what a node says once it is well
	nodePatience = time.Minute
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
	o, err := j.options()
	if err != nil {
		return err
	}
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
	for !ns.ReadyForConnections(100*time.Millisecond) || !well(ctx, ns) {
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
func (j *nodeJob) options() (*server.Options, error) {
	if err := os.MkdirAll(j.Dir, 0o700); err != nil {
		return nil, err
	}
	o := &server.Options{
		ServerName: j.Name, JetStream: true, StoreDir: j.Dir, MaxPayload: 4 << 20, MaxPending: 256 << 20, Authorization: j.Token,
		NoSigs: true, LogFile: filepath.Join(j.Dir, "log"),
		Cluster: server.ClusterOpts{Name: "verify", Username: "node", Password: j.Token},
	}
	for _, route := range j.Routes {
		o.Routes = append(o.Routes, &url.URL{Scheme: "nats", Host: route, User: url.UserPassword("node", j.Token)})
	}
	var errs [2]error
	o.Host, o.Port, errs[0] = hostPort(j.Listen)
	o.Cluster.Host, o.Cluster.Port, errs[1] = hostPort(j.Route)
	return o, errors.Join(errs[:]...)
}

func hostPort(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	return host, port, err
}

// well reports whether a node has a leader and is up to date with all that it
// keeps.
func well(ctx context.Context, ns *server.Server) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "/healthz", nil)
	if err != nil {
		return false
	}
	var s status
	ns.HandleHealthz(&s, r)
	return s == 0 || s == http.StatusOK
}

// status keeps the code of an answer.
type status int

// Header is not kept.
func (s *status) Header() http.Header { return http.Header{} }

// Write keeps nothing.
func (s *status) Write(b []byte) (int, error) { return len(b), nil }

// WriteHeader keeps the code. One goroutine calls it.
func (s *status) WriteHeader(code int) { *s = status(code) }
