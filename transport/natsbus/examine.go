package natsbus

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// Examine looks at the replicas of the streams that carry channels, and of their
// consumers: which have no leader, and which servers are away. A server that was heard
// within the last seconds is not, though its replica may have to catch up.
func (c *Conn) Examine(ctx context.Context) ([]driver.Finding, error) {
	if err := c.ready(); err != nil {
		return nil, err
	}
	// Lists leave out what has no leader, and the client asks for it without end: names
	// first, and then each by itself.
	var e examination
	var streams []string
	names := c.js.StreamNames(ctx)
	for name := range names.Name() {
		streams = append(streams, name)
	}
	err := names.Err()
	for _, name := range streams {
		if err == nil {
			err = c.examineStream(ctx, &e, name)
		}
	}
	return e.findings(), translate("look at the streams", err)
}

// examineStream looks at a stream and at its consumers. An error says that no more can
// be looked at.
func (c *Conn) examineStream(ctx context.Context, e *examination, name string) error {
	var s jetstream.Stream
	found, err := c.examineOne(ctx, e, "stream "+name, func(ctx context.Context) (err error) {
		s, err = c.js.Stream(ctx, name)
		return err
	})
	if !found || s.CachedInfo().Config.Metadata[metaChannel] == "" {
		return err
	}
	e.look("stream "+name, s.CachedInfo().Cluster)
	asking, cancel := c.deadline(ctx)
	defer cancel()
	consumers := s.ConsumerNames(asking)
	var all []string
	for consumer := range consumers.Name() {
		all = append(all, consumer)
	}
	if err := consumers.Err(); err != nil {
		return err
	}
	for _, consumer := range all {
		what := "consumer " + consumer + " of stream " + name
		var info *jetstream.ConsumerInfo
		found, err := c.examineOne(ctx, e, what, func(ctx context.Context) error {
			got, err := s.Consumer(ctx, consumer)
			if err == nil {
				info = got.CachedInfo()
			}
			return err
		})
		if err != nil {
			return err
		}
		if found {
			e.look(what, info.Cluster)
		}
	}
	return nil
}

// examineOne asks for one stream or consumer. One that is gone meanwhile is passed over;
// one that nobody answers for has no leader.
func (c *Conn) examineOne(ctx context.Context, e *examination, what string, ask func(context.Context) error) (found bool, err error) {
	asking, cancel := c.deadline(ctx)
	defer cancel()
	err = ask(asking)
	switch {
	case err == nil:
		return true, nil
	case ctx.Err() != nil:
		return false, ctx.Err()
	case isGone(err):
		return false, nil
	case errors.Is(err, nats.ErrPermissionViolation), c.Classify(translate(what, err)) == driver.Denied:
		return false, err
	}
	e.leaderless = append(e.leaderless, what)
	return false, nil
}

// An examination gathers what is wrong.
type examination struct {
	leaderless []string            // streams and consumers
	away       map[string][]string // streams and consumers, by the server that has a replica and is away
}

// silence is for how long a server must say nothing to count as away.
const silence = 10 * time.Second

func (e *examination) look(what string, cluster *jetstream.ClusterInfo) {
	if cluster == nil {
		return // a server alone
	}
	if cluster.Leader == "" {
		e.leaderless = append(e.leaderless, what)
	}
	for _, r := range cluster.Replicas {
		if !r.Offline && (r.Current || r.Active < silence) {
			continue
		}
		if e.away == nil {
			e.away = map[string][]string{}
		}
		e.away[r.Name] = append(e.away[r.Name], what)
	}
}

func (e *examination) findings() (all []driver.Finding) {
	if len(e.leaderless) > 0 {
		all = append(all, driver.Finding{Subject: "streams or consumers without a leader", Problem: "nothing can be sent there or received", Concerns: e.leaderless, Stops: true,
			Remedy: "start the servers that have a replica: it takes more than half of them; nats stream report names them"})
	}
	for _, name := range slices.Sorted(maps.Keys(e.away)) {
		all = append(all, driver.Finding{Subject: "server " + name, Problem: "is away, or does not answer, and has replicas", Concerns: e.away[name],
			Remedy: "start it, or look at its network and its log; if it is gone for good, nats server cluster peer-remove " + name + " has the others take its place"})
	}
	return all
}
