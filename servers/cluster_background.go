package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// attachCluster returns the kind's cluster in the background, with the nodes that
// were not closed; nil where there is none.
func attachCluster(k Kind) (*Cluster, error) {
	kind, ok := k.(Clustered)
	if !ok {
		return nil, nil
	}
	c := &Cluster{kind: kind}
	for i := range maxNodes {
		s, err := attach(k, nodeName(k, i))
		if err != nil {
			return nil, err
		}
		if s != nil {
			c.nodes = append(c.nodes, s)
		}
	}
	if helper := kind.Helper(); helper != nil {
		s, err := attach(helper, helper.Name())
		if err != nil {
			return nil, err
		}
		c.helper = s
	}
	if c.nodes == nil && c.helper == nil {
		return nil, nil
	}
	c.introduce()
	return c, nil
}

// BackgroundCluster returns the kind's cluster in the background and has the
// others that work with it wait until done is called. Without one the error is
// ErrNotThere.
func BackgroundCluster(ctx context.Context, k Kind) (c *Cluster, done func(), err error) {
	if done, err = lockBackground(ctx, k); err != nil {
		return nil, nil, err
	}
	if c, err = attachCluster(k); err == nil && c == nil {
		err = fmt.Errorf("a cluster of %s %w: start it with up %s --nodes 3", k.Name(), ErrNotThere, k.Name())
	}
	if err != nil {
		done()
		return nil, nil, err
	}
	return c, done, nil
}

// lockBackground has the others that work with the kind's servers in the
// background wait.
func lockBackground(ctx context.Context, k Kind) (unlock func(), err error) {
	dir, err := backgroundDir()
	if err != nil {
		return nil, err
	}
	return lock(ctx, filepath.Join(dir, k.Name()+".lock"))
}

// UpClusters starts a cluster of so many nodes of each kind in the background, all
// at once, and returns when they answer. Nodes that are there already are left as
// they are, or started again on their data when they do not answer. Report is as
// for Up.
func UpClusters(ctx context.Context, kinds []Kind, nodes int, report func(k Kind, doing string)) error {
	var mu sync.Mutex
	errs := make([]error, len(kinds))
	var wg sync.WaitGroup
	for i, k := range kinds {
		wg.Go(func() {
			errs[i] = upCluster(ctx, k, nodes, func(doing string) {
				mu.Lock()
				defer mu.Unlock()
				report(k, doing)
			})
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func upCluster(ctx context.Context, k Kind, nodes int, report func(doing string)) error {
	if _, err := clustered(k, nodes); err != nil {
		return err
	}
	if !k.Installed() {
		report("install")
		if err := Install(ctx, k); err != nil {
			return err
		}
	}
	unlock, err := lockBackground(ctx, k)
	if err != nil {
		return err
	}
	defer unlock()
	if one, err := attach(k, k.Name()); err != nil {
		return err
	} else if one != nil {
		return fmt.Errorf("%s is up as a server by itself: end it with down %s", k.Name(), k.Name())
	}
	c, err := attachCluster(k)
	if err != nil {
		return err
	}
	if c != nil && (c.nodes == nil || !isDir(c.nodes[0].in.Dir)) { // its data is gone, with a restart of the machine
		if err := c.Close(); err != nil {
			return err
		}
		c = nil
	}
	switch {
	case c == nil:
		report(fmt.Sprintf("start %d nodes", nodes))
		c, err = launchCluster(ctx, k, nodes, true)
	case len(c.nodes) != nodes:
		err = fmt.Errorf("%s is up with %d nodes: end it with down %s first", k.Name(), len(c.nodes), k.Name())
	default:
		report("start again what does not answer")
		if err = c.revive(ctx); err == nil {
			err = c.pair(ctx)
		}
	}
	if err != nil {
		return err
	}
	report("ready at " + c.URL())
	return nil
}

// revive starts nodes that do not answer on their data.
func (c *Cluster) revive(ctx context.Context) error {
	if c.helper != nil && c.helper.Answers(ctx) != nil {
		if err := c.helper.Restart(ctx); err != nil {
			return err
		}
	}
	return c.each(func(s *Server) error {
		if s.Answers(ctx) == nil {
			return nil
		}
		if !isDir(s.in.Dir) {
			return fmt.Errorf("start %s: %w", s.name, os.ErrNotExist)
		}
		return s.Restart(ctx)
	})
}
