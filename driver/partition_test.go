package driver_test

import (
	"hash/fnv"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
)

func TestPartitionOf_is_FNV_1a_modulo_the_partitions(t *testing.T) {
	for _, key := range []string{"a", "customer-42", "85123A", "ключ", "\x00\xff"} {
		h := fnv.New32a()
		h.Write([]byte(key))
		for _, n := range []int{2, 3, 8, 1024} {
			if got, want := driver.PartitionOf(key, n), int(h.Sum32()%uint32(n)); got != want {
				t.Errorf("partition of %q among %d is %d, want %d", key, n, got, want)
			}
		}
	}
	if driver.PartitionOf("", 8) != 0 || driver.PartitionOf("k", 1) != 0 || driver.PartitionOf("k", 0) != 0 {
		t.Error("what has no key, or no choice, is not in partition 0")
	}
}
