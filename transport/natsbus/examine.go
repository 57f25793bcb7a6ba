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
// consumers: which have no leader, and which servers are away or behind. A stream
// or a consumer with one replica, and one that changed its leader within the last
// seconds, is well.
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
	behind      map[string][]string // streams and consumers, by server: its copy is not current
	away        map[string]bool     // servers
}

// lately is how long a replica may take to catch up without anybody having to act.
const lately = 10 * time.Second

func (e *examination) look(what string, cluster *jetstream.ClusterInfo) {
	if cluster == nil {
		return // a server alone
	}
	if cluster.Leader == "" {
		e.leaderless = append(e.leaderless, what)
	}
	for _, r := range cluster.Replicas {
		if !r.Offline && (r.Current || r.Active < lately) {
			continue
		}
		if e.behind == nil {
			e.behind, e.away = map[string][]string{}, map[string]bool{}
		}
		e.behind[r.Name] = append(e.behind[r.Name], what)
		e.away[r.Name] = e.away[r.Name] || r.Offline
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
	for _, name := range slices.Sorted(maps.Keys(e.behind)) {
		f := driver.Finding{Subject: "server " + name, Problem: "its replicas are behind", Concerns: e.behind[name],
			Remedy: "look at its disk, its network and its log; nats stream report shows how far it is behind"}
		if e.away[name] {
			f.Problem = "is away, and has replicas"
			f.Remedy = "start it; if it is gone for good, nats server cluster peer-remove " + name + " has the others take its place"
		}
		all = append(all, f)
	}
	return all
}
