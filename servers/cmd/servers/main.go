// Servers starts the brokers and databases that Dovetail works with, on this
// machine, in the background: installs what is missing, waits until they
// answer and prints their URLs. It ends only what it started.
//
//	go run ./servers/cmd/servers up
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/dovetail-go/dovetail/servers"
)

const usage = `usage: servers COMMAND [SERVER…] [--without SERVER]… [--nodes N]

  up        install what is missing, start in the background, print the URLs
  down      end the servers that up started and remove their data
  status    what runs, where, and whether it answers
  env       the URLs as shell variables: eval "$(servers env)"
  install   only install what is missing
  kill      send SIGKILL; the data stays
  stop      end in good order; the data stays
  restart   kill what runs and start it again on its data and ports
  pause     send SIGSTOP: connections stay open, nothing answers
  resume    send SIGCONT
  promote   make a node of a PostgreSQL pair the primary; the other one is killed,
            and restarts as its standby
  log       the last lines of each server's log

Without a SERVER, all of them: %s.
up --nodes 3 starts a cluster of three nodes of each: nats-1, nats-2, nats-3. The
other commands take the name of a node, too; nats stands for all its nodes. down
nats-2 is a node that is lost for good. up postgres --nodes 2 starts a primary and a
synchronous standby: commits wait for both. After promote they wait for one, until up
is run again, which also starts what is down.
up ends with an error when one of them cannot be had: name it in --without
to do without it.
`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "servers:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, out io.Writer) error {
	if len(args) == 0 || slices.Contains(args, "-h") || slices.Contains(args, "--help") || args[0] == "help" {
		_, err := fmt.Fprintf(out, usage, strings.Join(names(servers.Kinds()), ", "))
		return err
	}
	rest, nodes, err := readNodes(args[1:])
	if err != nil {
		return err
	}
	rest, only := readNode(rest)
	kinds, err := choose(rest)
	if err != nil {
		return err
	}
	named := len(kinds) < len(servers.Kinds())
	if nodes != 0 && args[0] != "up" {
		return errors.New("--nodes is for up")
	}
	switch args[0] {
	case "up":
		return up(ctx, out, kinds, nodes, named)
	case "status":
		return status(ctx, out, kinds)
	case "install":
		return each(kinds, func(k servers.Kind) error { return servers.Install(ctx, k) })
	case "env":
		return each(kinds, func(k servers.Kind) error {
			url, done, err := urlOf(ctx, k)
			if errors.Is(err, servers.ErrNotThere) && !named {
				return nil
			}
			if err == nil {
				_, err = fmt.Fprintf(out, "export %s='%s'\n", servers.EnvName(k), url)
				done()
			}
			return err
		})
	case "promote":
		return promote(ctx, out, kinds, only)
	case "log":
		return there(ctx, kinds, only, named, func(s *servers.Server, _ servers.Kind) error {
			_, err := fmt.Fprintf(out, "%s\n%s\n", s.Name(), s.Log(40))
			return err
		})
	}
	actions := map[string]func(s *servers.Server) error{
		"down":    (*servers.Server).Close,
		"kill":    (*servers.Server).Kill,
		"pause":   (*servers.Server).Pause,
		"resume":  (*servers.Server).Resume,
		"stop":    func(s *servers.Server) error { return s.Stop(ctx) },
		"restart": func(s *servers.Server) error { return s.Restart(ctx) },
	}
	act := actions[args[0]]
	if act == nil {
		return fmt.Errorf("there is no command %q: see servers help", args[0])
	}
	after := func(*servers.Cluster) error { return nil }
	if args[0] == "down" {
		after = (*servers.Cluster).Close // with what its nodes share
	}
	return thereAnd(ctx, kinds, only, named, after, func(s *servers.Server, _ servers.Kind) error {
		start := time.Now()
		if err := act(s); err != nil {
			return err
		}
		_, err := fmt.Fprintf(out, "%-9s %s (%v)\n", s.Name(), args[0], time.Since(start).Round(time.Millisecond))
		return err
	})
}

// choose reads the names of servers, all without any, less those after
// --without.
func choose(args []string) ([]servers.Kind, error) {
	var with, without []servers.Kind
	for i := 0; i < len(args); i++ {
		list, name := &with, args[i]
		if value, ok := strings.CutPrefix(name, "--without="); ok {
			list, name = &without, value
		} else if name == "--without" {
			if i++; i == len(args) {
				return nil, errors.New("--without needs the name of a server after it")
			}
			list, name = &without, args[i]
		}
		for name := range strings.SplitSeq(name, ",") {
			k, err := servers.ByName(name)
			if err != nil {
				return nil, err
			}
			*list = append(*list, k)
		}
	}
	if with == nil {
		with = servers.Kinds()
	}
	with = slices.DeleteFunc(with, func(k servers.Kind) bool { return slices.Contains(without, k) })
	if len(with) == 0 {
		return nil, errors.New("--without leaves no server")
	}
	return with, nil
}

func up(ctx context.Context, out io.Writer, kinds []servers.Kind, nodes int, named bool) error {
	start := time.Now()
	report := func(k servers.Kind, doing string) {
		_, _ = fmt.Fprintf(out, "%5.1fs  %-9s %s\n", time.Since(start).Seconds(), k.Name(), doing)
	}
	var err error
	if nodes == 0 {
		err = servers.Up(ctx, kinds, report)
	} else {
		if !named {
			kinds = slices.DeleteFunc(kinds, func(k servers.Kind) bool { c, ok := k.(servers.Clustered); return !ok || c.MostNodes() < nodes })
		}
		err = servers.UpClusters(ctx, kinds, nodes, report)
	}
	if err != nil {
		return fmt.Errorf("%w\nthe others are up; --without does without a server", err)
	}
	_, err = fmt.Fprintln(out)
	return errors.Join(err, status(ctx, out, kinds))
}

func status(ctx context.Context, out io.Writer, kinds []servers.Kind) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, k := range kinds {
		all, _, done, err := inBackground(ctx, k)
		if err != nil {
			_, _ = fmt.Fprintln(w, err)
			continue
		}
		for _, s := range all {
			state := "answers"
			if err := s.Answers(ctx); err != nil {
				state = err.Error()
			}
			_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.Name(), s.Version(), s.URL(), state, s.Dir())
		}
		done()
	}
	return w.Flush()
}

func each(kinds []servers.Kind, f func(servers.Kind) error) error {
	var errs []error
	for _, k := range kinds {
		errs = append(errs, f(k))
	}
	return errors.Join(errs...)
}

func names(kinds []servers.Kind) (all []string) {
	for _, k := range kinds {
		all = append(all, k.Name())
	}
	return all
}
