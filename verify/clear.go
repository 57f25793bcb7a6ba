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
	"github.com/dovetail-go/dovetail/driver/backoff"
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
			waits := dovetail.UnhandledChannel(s, s, e.Spec().Type())
			names = append(names, waits, waits[:strings.LastIndexByte(waits, '.')]) // and what says that there are some
		}
	}
	l, _ := conn.(driver.Lister)
	for try := 1; ; try++ {
		found, err := r.made(ctx, l, conn)
		if err != nil {
			return err
		}
		if names = append(names, found...); len(names) == 0 {
			return nil
		}
		if err := removeAll(ctx, conn, remover, names); err != nil || l == nil || try == mostClears {
			return err
		}
		names = nil
		backoff.Sleep(ctx, lookEvery)
	}
}

// mostClears bounds how often it is looked whether a channel is left: one that a
// process had asked for when it was killed may appear after it was removed.
const mostClears = 10

// made are the channels that are there and have the run's name.
func (r *run) made(ctx context.Context, l driver.Lister, conn driver.Conn) (names []string, err error) {
	if l == nil {
		return nil, nil
	}
	all, err := l.Channels(ctx)
	if err != nil {
		if conn.Classify(err) == driver.Unsupported {
			err = nil
		}
		return nil, err
	}
	for _, c := range all {
		if strings.Contains(c.Channel.Name, "verify-"+r.id) {
			names = append(names, c.Channel.Name)
		}
	}
	return names, nil
}

func removeAll(ctx context.Context, conn driver.Conn, remover driver.Remover, names []string) error {
	slices.Sort(names)
	var errs []error
	for _, name := range slices.Compact(names) {
		if err := remover.RemoveChannel(ctx, name); err != nil && conn.Classify(err) != driver.NotFound {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
