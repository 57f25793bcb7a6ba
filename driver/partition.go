package driver

// PartitionOf is the partition of a key, 0 to n-1: FNV-1a, 32 bits, of its bytes,
// modulo n, so that programs in other languages can agree. Messages without a
// key go to partition 0. It is for transports whose engine has no rule of its
// own.
func PartitionOf(key string, n int) int {
	if key == "" || n < 2 {
		return 0
	}
	h := uint32(2166136261)
	for i := range len(key) {
		h ^= uint32(key[i])
		h *= 16777619
	}
	return int(h % uint32(n))
}

// Repartition says, for a person, how a channel gets another number of
// partitions where that is fixed.
func Repartition(channel string) string {
	return "stop the services that send to it, let it become empty, remove it (dovetail topology remove " + channel +
		") and start them with Partitions on its contracts' channel, or partitions=8 in the URL"
}
