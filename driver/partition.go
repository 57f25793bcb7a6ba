package driver

// PartitionOf returns the partition of a key, 0 to n-1: the 32-bit FNV-1a hash of
// its bytes, modulo n, so that programs in other languages can compute the same. It
// is 0 for messages without a key, and where n is below 2. It is for transports
// whose engine has no rule of its own.
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

// Repartition returns a text for error messages: how a person changes the number of
// partitions of a channel, on transports where it is fixed once the channel exists.
func Repartition(channel string) string {
	return "stop the services that send to it, let it become empty, remove it (dovetail topology remove " + channel +
		") and start them with Partitions on its contracts' channel, or partitions=8 in the URL"
}
