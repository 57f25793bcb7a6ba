package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/servers"
)

// readNodes takes --nodes N out of the arguments; without it, nodes is 0.
func readNodes(args []string) (rest []string, nodes int, err error) {
	for i := 0; i < len(args); i++ {
		value, ok := strings.CutPrefix(args[i], "--nodes=")
		if args[i] == "--nodes" {
			if i++; i == len(args) {
				return nil, 0, errors.New("--nodes needs a number after it")
			}
			value, ok = args[i], true
		}
		if !ok {
			rest = append(rest, args[i])
			continue
		}
		if nodes, err = strconv.Atoi(value); err != nil || nodes < 2 {
			return nil, 0, fmt.Errorf("--nodes %s: want 2 or more", value)
		}
	}
	return rest, nodes, nil
}

// readNode turns the names of nodes into those of their kinds, and says which
// nodes were named; a kind of which none was stands for all of them.
func readNode(args []string) (rest []string, only map[string][]string) {
	only = map[string][]string{}
	for _, arg := range args {
		kind, number, ok := strings.Cut(arg, "-")
		if _, err := strconv.Atoi(number); !ok || err != nil {
			rest = append(rest, arg)
			continue
		}
		only[kind] = append(only[kind], arg)
		if !slices.Contains(rest, kind) {
			rest = append(rest, kind)
		}
	}
	return rest, only
}

// inBackground returns the kind's servers in the background: one, or the nodes of
// its cluster.
func inBackground(ctx context.Context, k servers.Kind) (all []*servers.Server, c *servers.Cluster, done func(), err error) {
	c, done, err = servers.BackgroundCluster(ctx, k)
	if err == nil {
		return c.Nodes(), c, done, nil
	}
	if !errors.Is(err, servers.ErrNotThere) {
		return nil, nil, nil, err
	}
	s, done, err := servers.Background(ctx, k)
	if err != nil {
		return nil, nil, nil, err
	}
	return []*servers.Server{s}, nil, done, nil
}

// urlOf returns what a client of the kind's servers connects to.
func urlOf(ctx context.Context, k servers.Kind) (url string, done func(), err error) {
	all, c, done, err := inBackground(ctx, k)
	switch {
	case err != nil:
		return "", nil, err
	case c != nil:
		return c.URL(), done, nil
	}
	return all[0].URL(), done, nil
}

// there calls f for the servers that are in the background, one after the other:
// for those nodes of a kind that only names, or for all. One that is not there is
// an error only where it was named.
func there(ctx context.Context, kinds []servers.Kind, only map[string][]string, named bool, f func(*servers.Server, servers.Kind) error) error {
	return thereAnd(ctx, kinds, only, named, func(*servers.Cluster) error { return nil }, f)
}

// thereAnd is there, and calls after for a cluster all of whose nodes were meant.
func thereAnd(ctx context.Context, kinds []servers.Kind, only map[string][]string, named bool,
	after func(*servers.Cluster) error, f func(*servers.Server, servers.Kind) error) error {
	return each(kinds, func(k servers.Kind) error {
		all, c, done, err := inBackground(ctx, k)
		if errors.Is(err, servers.ErrNotThere) && !named {
			return nil
		}
		if err != nil {
			return err
		}
		defer done()
		names := only[k.Name()]
		for _, name := range names {
			if !slices.ContainsFunc(all, func(s *servers.Server) bool { return s.Name() == name }) {
				return fmt.Errorf("there is no %s: see servers status", name)
			}
		}
		var errs []error
		for _, s := range all {
			if names == nil || slices.Contains(names, s.Name()) {
				errs = append(errs, f(s, k))
			}
		}
		if c != nil && names == nil {
			errs = append(errs, after(c))
		}
		return errors.Join(errs...)
	})
}

// promote makes the one node that was named the primary of its pair.
func promote(ctx context.Context, out io.Writer, kinds []servers.Kind, only map[string][]string) error {
	if len(kinds) != 1 || len(only[kinds[0].Name()]) != 1 {
		return errors.New("promote needs the name of one node: promote postgres-2")
	}
	all, c, done, err := inBackground(ctx, kinds[0])
	if err != nil {
		return err
	}
	defer done()
	name := only[kinds[0].Name()][0]
	i := slices.IndexFunc(all, func(s *servers.Server) bool { return s.Name() == name })
	if i < 0 || c == nil {
		return fmt.Errorf("there is no %s: see servers status", name)
	}
	start := time.Now()
	if err := c.Promote(ctx, all[i]); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%-9s promoted (%v)\n", name, time.Since(start).Round(time.Millisecond))
	return err
}
