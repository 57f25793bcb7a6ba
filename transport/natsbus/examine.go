package natsbus

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go/jetstream"
)

// Examine looks at the replicas of the streams that carry channels, and of their
// consumers: which have no leader, and which servers are away. A server that was heard
// within the last seconds is not, though its replica may have to catch up.
func (c *Conn) Examine(ctx context.Context) ([]driver.Finding, error) {
	if err := c.ready(); err != nil {
		return nil, err
	}
	const doing = "look at the streams"
	var e examination
	names := c.js.StreamNames(ctx)
	for name := range names.Name() {
		e.named = append(e.named, name)
	}
	if err := names.Err(); err != nil {
		return nil, translate(doing, err)
	}
	streams := c.js.ListStreams(ctx)
	for s := range streams.Info() {
		e.told = append(e.told, s.Config.Name)
		if s.Config.Metadata[metaChannel] != "" {
			e.ours = append(e.ours, s.Config.Name)
			e.look("stream "+s.Config.Name, s.Cluster)
		}
	}
	if err := streams.Err(); err != nil {
		return nil, translate(doing, err)
	}
	for _, name := range e.ours {
		if err := c.examineGroups(ctx, &e, name); err != nil && !isGone(err) {
			return nil, translate("look at the consumers of stream "+name, err)
		}
	}
	return e.findings(), nil
}

func (c *Conn) examineGroups(ctx context.Context, e *examination, stream string) error {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	s, err := c.js.Stream(ctx, stream)
	if err != nil {
		return err
	}
	consumers := s.ListConsumers(ctx)
	for info := range consumers.Info() {
		e.look("consumer "+info.Name+" of stream "+stream, info.Cluster)
	}
	return consumers.Err()
}

// An examination gathers what is wrong.
type examination struct {
	named, told []string // streams that there are, and those whose leaders answered
	ours        []string
	leaderless  []string            // streams and consumers
	away        map[string][]string // streams and consumers, by the server that has a replica and is away
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
	for _, name := range e.named {
		if !slices.Contains(e.told, name) {
			e.leaderless = append(e.leaderless, "stream "+name)
		}
	}
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
