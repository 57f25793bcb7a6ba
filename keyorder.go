package dovetail

import (
	"context"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
)

// owned reports whether each partition of a channel has one owner among the
// instances of a group, as far as the declarations say.
func (s *Service) owned(ch driver.Channel) bool {
	return s.caps.Order >= driver.OrderOwner || s.caps.PartitionOwners && ch.Partitions > 0
}

// ownersRemedy says how a channel gets partitions with owners.
func (s *Service) ownersRemedy() string {
	if s.caps.PartitionOwners {
		return "give the channel partitions, by Partitions on the contract's channel or partitions=8 in the URL"
	}
	return "use a transport whose partitions have owners"
}

// repartition says how a channel that exists gets them.
func (s *Service) repartition(channel string) string {
	if s.caps.PartitionOwners {
		return driver.Repartition(channel)
	}
	return s.ownersRemedy()
}

// Pace of the look for other instances.
const (
	companyEvery = time.Minute
	companyAgain = time.Second // whether they are there still
)

// watchCompany warns where other instances receive messages with keys side by
// side with this one: then there is no order by key. Whether a channel has owners
// its receiver says: it may have been made before the URL asked for partitions.
func (r *run) watchCompany(ctx context.Context) {
	var watched []*company
	for i, b := range r.consumers {
		if b.keyed && !b.broadcast && !b.channel.Transient {
			watched = append(watched, &company{src: r.sources[i]})
		}
	}
	if len(watched) == 0 {
		return
	}
	for every := companyAgain; ; {
		for _, c := range watched {
			c.look(ctx)
		}
		if !backoff.Sleep(ctx, every) {
			return
		}
		if every == companyAgain {
			every = companyEvery
		} else {
			every = companyAgain // two looks in a row
		}
	}
}

// company is what is known of other instances that receive beside a source.
type company struct {
	src  *source
	seen bool // at the last look
	told bool
}

// look tells of others that were there at two looks in a row: one that is
// leaving, or a consumer that follows another, is none.
func (c *company) look(ctx context.Context) {
	sharer, ok := c.src.current().(driver.Sharer)
	if !ok {
		return
	}
	shared, err := sharer.Shared(ctx)
	if err != nil {
		return // receiving tells of a broker that is away
	}
	if shared && c.seen && !c.told {
		c.src.notice(Notice{Kind: NoticeUnordered, Err: fmt.Errorf(
			"another instance receives from this channel, which was made without partitions that have owners: messages of one key may be handled at the same time and out of order: run one instance, declare the contract without a key, or %s",
			c.src.s.repartition(c.src.sub.Channel.Name))})
	}
	c.told = shared && (c.seen || c.told)
	c.seen = shared
}
