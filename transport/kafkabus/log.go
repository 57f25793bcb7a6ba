package kafkabus

import (
	"context"
	"errors"
	"fmt"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// readBytes is how much of a partition one request asks for.
const readBytes = 1 << 20

// readCommitted leaves out what a transactional producer of somebody else's has
// aborted, and what it has not committed yet. A partition then ends where the first
// transaction begins that is not over.
const readCommitted = 1

// read asks a partition's leader for records from an offset on, without a
// consumer. It returns where to go on: past records that are no messages, as the
// markers of transactions. At the end of the partition that is what was given, and
// no records.
func (c *Conn) read(ctx context.Context, t *topic, partition int32, offset int64) (records []*kgo.Record, next int64, err error) {
	doing := fmt.Sprintf("read topic %s, partition %d", t.name, partition)
	if int(partition) >= len(t.leaders) || t.leaders[partition] < 0 {
		return nil, offset, fmt.Errorf("kafkabus: %s: it has no leader: %w", doing, driver.ErrRetryable)
	}
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = -1, 0, 0, readBytes
	req.SessionEpoch, req.IsolationLevel = -1, readCommitted
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = partition, offset, readBytes, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = t.name, t.id
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	got, err := c.client.Broker(int(t.leaders[partition])).RetriableRequest(ctx, req)
	if err != nil {
		return nil, offset, translate(doing, err)
	}
	resp := got.(*kmsg.FetchResponse)
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, offset, translate(doing, err)
	}
	if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
		return nil, offset, fmt.Errorf("kafkabus: %s: %w: the server's answer leaves it out", doing, driver.ErrRetryable)
	}
	opts := kgo.ProcessFetchPartitionOpts{Offset: offset, Topic: t.name, Partition: partition, IsolationLevel: kgo.ReadCommitted()}
	p, next := kgo.ProcessFetchPartition(opts, &resp.Topics[0].Partitions[0], kgo.DefaultDecompressor(), nil)
	if p.Err != nil {
		return nil, offset, translate(doing, p.Err)
	}
	return p.Records, next, nil
}

// firstFrom is where a partition's first message is from an offset on, or end if
// there is none before it: a log may end with markers, with what was aborted, and
// with what compaction has emptied.
func (c *Conn) firstFrom(ctx context.Context, t *topic, partition int32, at, end int64) (int64, error) {
	for at < end {
		records, next, err := c.read(ctx, t, partition, at)
		switch {
		case errors.Is(err, driver.ErrPositionLost):
			return at, nil // whoever receives is told
		case err != nil:
			return at, err
		case len(records) > 0:
			return min(records[0].Offset, end), nil
		case next <= at:
			return at, nil // a server that is not up to date
		}
		at = next
	}
	return end, nil
}

// bounds are where the partitions of a topic begin and end.
type bounds struct{ start, end []int64 }

// bounds asks for both.
func (c *Conn) bounds(ctx context.Context, t *topic) (b bounds, err error) {
	if b.start, err = c.offsets(ctx, t, earliest); err == nil {
		b.end, err = c.offsets(ctx, t, latest)
	}
	return b, err
}

func (c *Conn) ends(ctx context.Context, t *topic) ([]int64, error) { return c.offsets(ctx, t, latest) }

// What ListOffsets takes for a time.
const (
	latest   int64 = -1
	earliest int64 = -2
)

// offsets asks the partitions' leaders, which the client would first ask the
// cluster for again.
func (c *Conn) offsets(ctx context.Context, t *topic, at int64) ([]int64, error) {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	offsets := make([]int64, len(t.leaders))
	err := insist(ctx, func() error {
		err := c.listOffsets(ctx, t, at, offsets)
		if err == nil || !kerr.IsRetriable(err) {
			return err
		}
		// A leader has moved: the error says so again with the next try if not.
		if found, derr := c.describe(ctx, t.name); derr == nil && found[t.name] != nil && found[t.name].id == t.id {
			t = found[t.name]
		}
		return err
	})
	if err != nil {
		return nil, translate("ask for the offsets of topic "+t.name, err)
	}
	return offsets, nil
}

func (c *Conn) listOffsets(ctx context.Context, t *topic, at int64, offsets []int64) error {
	requests := map[int32]*kmsg.ListOffsetsRequest{}
	for p := range offsets {
		if p >= len(t.leaders) || t.leaders[p] < 0 {
			return kerr.LeaderNotAvailable
		}
		req := requests[t.leaders[p]]
		if req == nil {
			req = kmsg.NewPtrListOffsetsRequest()
			req.ReplicaID, req.IsolationLevel = -1, readCommitted
			rt := kmsg.NewListOffsetsRequestTopic()
			rt.Topic = t.name
			req.Topics = append(req.Topics, rt)
			requests[t.leaders[p]] = req
		}
		rp := kmsg.NewListOffsetsRequestTopicPartition()
		rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = int32(p), at, -1
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, rp)
	}
	for leader, req := range requests {
		got, err := c.client.Broker(int(leader)).RetriableRequest(ctx, req)
		if err != nil {
			return err
		}
		for _, rt := range got.(*kmsg.ListOffsetsResponse).Topics {
			for _, rp := range rt.Partitions {
				if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
					return err
				}
				if int(rp.Partition) < len(offsets) {
					offsets[rp.Partition] = rp.Offset
				}
			}
		}
	}
	return nil
}
