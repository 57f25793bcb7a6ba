package kafkabus

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Examine looks at the partitions of the topics that carry channels: which have no
// leader, and which brokers are away or behind.
func (c *Conn) Examine(ctx context.Context) ([]driver.Finding, error) {
	if err := c.ready(); err != nil {
		return nil, err
	}
	if err := c.reg.sync(ctx); err != nil {
		return nil, err
	}
	c.reg.mu.Lock()
	names := slices.Sorted(maps.Keys(c.reg.channels))
	c.reg.mu.Unlock()
	if len(names) == 0 {
		return nil, nil
	}
	resp, err := c.metadata(ctx, names)
	if err != nil {
		return nil, err
	}
	return findings(resp), nil
}

// findings judges the partitions of topics. Without a leader a partition stands still
// until a broker that has all of it is there: one of those in sync (ISR). To have another
// one lead loses messages.
func findings(resp *kmsg.MetadataResponse) (all []driver.Finding) {
	runs := map[int32]bool{}
	for _, b := range resp.Brokers {
		runs[b.NodeID] = true
	}
	var leaderless []string
	needed := map[int32]bool{}     // brokers in sync of a partition without a leader
	behind := map[int32][]string{} // partitions, by the broker whose copy is not current
	for _, t := range resp.Topics {
		if err := kerr.ErrorForCode(t.ErrorCode); err != nil && t.Topic != nil && !errors.Is(err, kerr.LeaderNotAvailable) {
			all = append(all, driver.Finding{Subject: "topic " + *t.Topic, Problem: "the cluster does not tell of it: " + err.Error(), Stops: true,
				Remedy: "grant Describe on it; where it was deleted, start its services, which make it again"})
		}
		for _, p := range t.Partitions {
			name := "partition " + *t.Topic + "/" + strconv.Itoa(int(p.Partition))
			if p.Leader < 0 {
				leaderless = append(leaderless, name)
				for _, broker := range p.ISR {
					needed[broker] = true
				}
			}
			for _, broker := range p.Replicas {
				if !slices.Contains(p.ISR, broker) || slices.Contains(p.OfflineReplicas, broker) {
					behind[broker] = append(behind[broker], name)
				}
			}
		}
	}
	if len(leaderless) > 0 {
		all = append(all, driver.Finding{Subject: "partitions without a leader", Problem: "nothing can be sent there or received", Concerns: leaderless, Stops: true,
			Remedy: "start a broker that is in sync with them, with its data: kafka-topics.sh --describe --unavailable-partitions names those (Isr); any other one loses messages"})
	}
	const fewer = "; a partition with fewer current copies than min.insync.replicas takes no messages"
	for _, broker := range slices.Sorted(maps.Keys(behind)) {
		f := driver.Finding{Subject: fmt.Sprintf("broker %d", broker), Problem: "its copies are behind", Concerns: behind[broker],
			Remedy: "look at its disk, its network and its log" + fewer}
		if !runs[broker] {
			f.Problem = "is away, and has copies"
			f.Remedy = "start it; if it is gone for good, start another with its node.id, or kafka-reassign-partitions.sh gives its copies to others" + fewer
		}
		if needed[broker] {
			f.Remedy = "start it with its data: it has the last messages of partitions without a leader, which an empty one in its place, or an unclean election, would lose"
		}
		all = append(all, f)
	}
	return all
}
