package verify

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// close ends what still runs and removes what the run made, unless that is to be
// kept.
func (r *run) close(ctx context.Context) error {
	r.closeWalk()
	if r.faults != nil {
		r.faults.end()
	}
	if r.fleet != nil {
		for _, role := range []role{writing, relaying, consuming} {
			r.fleet.stop(role)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var errs []error
	if r.letters != nil {
		errs = append(errs, r.letters.conn.Close(ctx))
	}
	if r.plain != nil && r.plain.conn != nil {
		errs = append(errs, r.plain.conn.Close(ctx))
	}
	for _, p := range r.proxies {
		p.Close()
	}
	for _, s := range []Store{r.books, r.shelf} {
		if s == nil {
			continue
		}
		if !r.Keep {
			errs = append(errs, s.drop(ctx))
		}
		errs = append(errs, s.Close())
	}
	if r.fleet != nil && !r.Keep {
		errs = append(errs, r.clear(ctx))
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("verify: remove what run %s has made: %w", r.id, err)
	}
	return nil
}

// clear removes the run's channels from the broker, where it can.
func (r *run) clear(ctx context.Context) (err error) {
	conn, err := driver.Open(ctx, r.Broker)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close(ctx)) }()
	remover, ok := conn.(driver.Remover)
	if !ok {
		r.Logger.Info("this transport cannot remove channels: those of the run stay", "run", r.id)
		return nil
	}
	names := []string{eventName(r.id), sharedName(r.id), foreignName(r.id)}
	services := append(r.services(), booksName(r.id))
	for _, s := range services {
		names = append(names, dovetail.DeadLetterChannel(s), dovetail.RequeueChannel(s))
		for _, e := range (&job{Run: r.id}).events(versions) {
			names = append(names, dovetail.UnhandledChannel(s, s, e.Spec().Type()))
		}
	}
	if l, ok := conn.(driver.Lister); ok { // reply channels, one for each process
		all, err := l.Channels(ctx)
		if err != nil && conn.Classify(err) != driver.Unsupported {
			return err
		}
		for _, c := range all {
			if strings.Contains(c.Channel.Name, "verify-"+r.id) && !slices.Contains(names, c.Channel.Name) {
				names = append(names, c.Channel.Name)
			}
		}
	}
	var errs []error
	for _, name := range names {
		if err := remover.RemoveChannel(ctx, name); err != nil && conn.Classify(err) != driver.NotFound {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
