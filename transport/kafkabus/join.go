package kafkabus

import (
	"context"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupPatience is how long OpenReceiver waits for the group to be given out. A
// server waits for 3 s (group.initial.rebalance.delay.ms) for the members of a new
// group. A member that has died, or does not let go, holds the others up for longer.
const groupPatience = 5 * time.Second

// awaitGroup waits until the group was given out, and so until it is known what is
// this receiver's. What takes longer than groupPatience goes on behind Receive.
func (r *receiver) awaitGroup(ctx context.Context) error {
	if !r.group {
		return nil
	}
	timer := time.NewTimer(min(groupPatience, r.c.opts.Timeout))
	defer timer.Stop()
	select {
	case <-r.given:
	case <-timer.C:
	case <-r.done:
		return driver.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// consumerOptions are those of every receiver's client.
func (r *receiver) consumerOptions(more ...kgo.Opt) []kgo.Opt {
	o := &r.c.opts
	fetch := fetchBytes(r.sub.WindowBytes, r.topic)
	ctx, kill := context.WithCancel(context.Background())
	r.kill = kill
	return o.clientOptions(append([]kgo.Opt{
		kgo.WithContext(ctx),
		// Markers of transactions come with the messages, to be settled: what a
		// group has settled would end before them for good.
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.FetchMaxBytes(int32(fetch)),
		kgo.FetchMaxPartitionBytes(int32(min(fetch, max(2<<20, o.batchBytes())))),
		// A fetch that nobody answers within this and the overhead is taken for lost.
		kgo.FetchMaxWait(min(500*time.Millisecond, o.Timeout)),
	}, more...)...)
}

// join makes the client a member of the group.
func (r *receiver) join(ctx context.Context) error {
	if err := r.c.reg.sync(ctx); err != nil {
		return err
	}
	entry, ok := r.c.reg.group(r.sub.Group, r.topic.name, r.topic.id)
	if !ok {
		return fmt.Errorf("group %s of channel %s: %w: provision it first", r.sub.Group, r.sub.Channel.Name, driver.ErrNotFound)
	}
	r.begin = entry.Positions
	if r.sub.Channel.Kind == driver.PointToPoint {
		gone, err := r.c.removedFrom(ctx, r.sub.Channel.Name)
		if err != nil {
			return err
		}
		r.taken = gone
	}
	o := &r.c.opts
	reset := kgo.NoResetOffset()
	if r.sub.Channel.Transient {
		reset = kgo.NewOffset().AtStart() // what has expired is missed by nobody
	}
	more := []kgo.Opt{}
	if r.sub.Instance != "" {
		// An instance that was killed and comes back under its name has its
		// partitions again at once. Otherwise the group waits for its dead self
		// until the session ends, and an instance that is killed more often than
		// that never gets on.
		more = append(more, kgo.InstanceID(r.sub.Instance))
	}
	client, err := kgo.NewClient(r.consumerOptions(append(more,
		kgo.ConsumerGroup(groupID(r.sub.Group, r.topic.name)),
		kgo.ConsumeTopics(r.topic.name),
		kgo.Balancers(balancer{kgo.CooperativeStickyBalancer(), r}),
		kgo.ConsumeStartOffset(kgo.NewOffset().AtStart()),
		kgo.ConsumeResetOffset(reset),
		kgo.DisableAutoCommit(),
		kgo.SessionTimeout(o.SessionTimeout),
		kgo.HeartbeatInterval(o.Heartbeat),
		kgo.RebalanceTimeout(o.DrainTimeout+o.SessionTimeout),
		kgo.OnPartitionsAssigned(r.onAssigned),
		kgo.OnPartitionsRevoked(r.onRevoked),
		kgo.OnPartitionsLost(r.onLost),
		kgo.OnOffsetsFetched(r.onOffsets),
		kgo.AdjustFetchOffsetsFn(r.adjust),
	)...)...)
	r.client = client
	return err
}

// leavePatience is how long the client may take to leave. It waits for a join that
// is under way, and so for the slowest member of the group.
const leavePatience = time.Second

// leave makes the group give our partitions to others now, as a member with an
// instance's name does not by leaving, nor one whose join is still under way. It
// leaves for itself alone where it can: the name may be a successor's already.
// A server that does not answer does not hold up the rest: it finds out by itself
// when the session ends.
func (r *receiver) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 2*leavePatience)
	defer cancel()
	soon, enough := context.WithTimeout(ctx, leavePatience)
	left := r.client.LeaveGroupContext(soon) == nil
	enough()
	r.kill() // nothing joins any more
	member, _ := r.client.GroupMetadata()
	if r.sub.Instance == "" && (left || member == "") {
		return
	}
	why := "the receiver was closed"
	m := kmsg.NewLeaveGroupRequestMember()
	m.MemberID, m.Reason = member, &why
	if r.sub.Instance != "" {
		m.InstanceID = &r.sub.Instance
	}
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.Members = groupID(r.sub.Group, r.topic.name), append(req.Members, m)
	_, _ = req.RequestWith(ctx, r.c.client)
}
