package drivertest

import (
	"fmt"

	"github.com/dovetail-go/dovetail/driver"
)

var samekeyTests = map[string]test{
	"Partition_is_the_same_for_a_key_over_all_connections": {run: testSameKey},
	"Partition_is_the_same_for_a_key_from_every_process":   {run: testSameKeyProcess, gap: needsURL},
	"Partition_tells_keys_apart":                           {run: testPartitions, gap: needsOrder(driver.OrderOwner)},
}

const sameKeys = 64

// partitionsOf takes n messages and returns the partition of each key, which
// must be one.
func (e *env) partitionsOf(r driver.Receiver, of map[string]int, n int) {
	e.Helper()
	for _, d := range e.take(r, n) {
		key := d.Message.Key
		if p, ok := of[key]; ok && p != d.Partition {
			e.Fatalf("key %s is in partition %d and in partition %d", key, p, d.Partition)
		}
		of[key] = d.Partition
		e.settle(r, driver.Ack, d)
	}
}

func (e *env) fewPartitions(c driver.Conn) (driver.Channel, driver.Subscription) {
	e.Helper()
	if e.caps.Order >= driver.OrderOwner {
		return e.partitioned(c)
	}
	return e.queue(c)
}

func testSameKey(e *env) {
	c := e.conn()
	ch, s := e.fewPartitions(c)
	r := e.receiver(c, s)
	of := map[string]int{}
	for i := range 3 {
		e.send(e.conn(), Numbered(ch.Name, "key-", i*sameKeys, (i+1)*sameKeys, sameKeys)...)
		e.partitionsOf(r, of, sameKeys)
	}
}

// testSameKeyProcess has processes send, each as a program of its own.
func testSameKeyProcess(e *env) {
	c := e.conn()
	ch, s := e.fewPartitions(c)
	r := e.receiver(c, s)
	of := map[string]int{}
	e.send(c, Numbered(ch.Name, "key-", 0, sameKeys, sameKeys)...)
	e.partitionsOf(r, of, sameKeys)
	for i := range 2 {
		sendInProcess(e, processTask{URL: e.h.URL, Subscription: s, Prefix: "key-", From: (i + 1) * sameKeys, To: (i + 2) * sameKeys, Keys: sameKeys})
		e.partitionsOf(r, of, sameKeys)
	}
}

func testPartitions(e *env) {
	c := e.conn()
	ch, s := e.partitioned(c)
	e.send(c, Numbered(ch.Name, "key-", 0, sameKeys, sameKeys)...)
	of := map[string]int{}
	e.partitionsOf(e.receiver(c, s), of, sameKeys)
	distinct := map[int]bool{}
	for key, p := range of {
		if p < 0 {
			e.Errorf("key %s is in partition %d", key, p)
		}
		distinct[p] = true
	}
	if len(distinct) < 3 {
		e.Errorf("%d keys are in %s of 4 partitions", sameKeys, fmt.Sprint(len(distinct)))
	}
}
