package kafkabus

import "github.com/twmb/franz-go/pkg/kgo"

// partitionFor is the partition of a key: what Java's producer chooses by
// default, and librdkafka's with partitioner=murmur2_random. It is our own, so
// that no new version of a client moves keys.
func partitionFor(key []byte, partitions int) int {
	return int(murmur2(key)&0x7fffffff) % partitions
}

// murmur2 is the 32-bit hash of org.apache.kafka.common.utils.Utils.murmur2.
func murmur2(b []byte) uint32 {
	const (
		seed uint32 = 0x9747b28c
		m    uint32 = 0x5bd1e995
		r           = 24
	)
	h := seed ^ uint32(len(b))
	for len(b) >= 4 {
		k := uint32(b[3])<<24 | uint32(b[2])<<16 | uint32(b[1])<<8 | uint32(b[0])
		b = b[4:]
		k *= m
		k ^= k >> r
		k *= m
		h *= m
		h ^= k
	}
	switch len(b) {
	case 3:
		h ^= uint32(b[2]) << 16
		fallthrough
	case 2:
		h ^= uint32(b[1]) << 8
		fallthrough
	case 1:
		h ^= uint32(b[0])
		h *= m
	}
	h ^= h >> 13
	h *= m
	h ^= h >> 15
	return h
}

// partitioner chooses partitions for the client underneath: by key, and without
// one the next in turn with each batch, which spreads them without making every
// batch small.
type partitioner struct{}

func (partitioner) ForTopic(string) kgo.TopicPartitioner { return &topicPartitioner{} }

type topicPartitioner struct{ turn int }

func (*topicPartitioner) RequiresConsistency(r *kgo.Record) bool { return len(r.Key) > 0 }

func (t *topicPartitioner) Partition(r *kgo.Record, n int) int {
	if len(r.Key) > 0 {
		return partitionFor(r.Key, n)
	}
	return t.turn % n
}

// OnNewBatch implements kgo.TopicPartitionerOnNewBatch.
func (t *topicPartitioner) OnNewBatch() { t.turn = (t.turn + 1) & 0xffff }
