package drivertest_test

import (
	"context"
	"slices"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
)

// A loser makes a defect of how a receiver loses partitions.
type loser func(driver.Receiver, driver.Revoker) driver.Revoker

// A revoker has a Release of its own.
type revoker struct {
	driver.Revoker
	release func(context.Context, []int) error
}

func (r revoker) Release(ctx context.Context, partitions []int) error {
	return r.release(ctx, partitions)
}

// silentRevoker never says what is lost.
type silentRevoker struct{ driver.Revoker }

func (silentRevoker) Revoked() <-chan []int { return nil }

var handoverMutants = map[string]mutant{
	"never says that a partition is lost": {by: "Handover_moves_each_partition_by_itself",
		loses: func(_ driver.Receiver, rv driver.Revoker) driver.Revoker { return silentRevoker{rv} }},
	"releases partitions together only": {by: "Handover_moves_each_partition_by_itself",
		loses: func(_ driver.Receiver, rv driver.Revoker) driver.Revoker {
			var mu sync.Mutex
			var held []int
			return revoker{rv, func(ctx context.Context, partitions []int) error {
				mu.Lock()
				defer mu.Unlock()
				if held = append(held, partitions...); len(held) < 2 {
					return nil
				}
				return rv.Release(ctx, held)
			}}
		}},
	"releases every partition with the first": {by: "Handover_moves_each_partition_by_itself",
		loses: func(_ driver.Receiver, rv driver.Revoker) driver.Revoker {
			return revoker{rv, func(ctx context.Context, partitions []int) error {
				return rv.Release(ctx, append(slices.Clone(partitions), 0, 1, 2, 3))
			}}
		}},
	"releases nothing": {by: "Handover_gives_what_was_abandoned_to_the_next|Handover_moves_each_partition_by_itself",
		loses: func(_ driver.Receiver, rv driver.Revoker) driver.Revoker {
			return revoker{rv, func(context.Context, []int) error { return nil }}
		}},
	"fails to release what is not its own": {by: "Handover_moves_each_partition_by_itself|Handover_moves_what_has_nothing_in_hand_at_once",
		loses: func(_ driver.Receiver, rv driver.Revoker) driver.Revoker {
			return revoker{rv, func(ctx context.Context, partitions []int) error {
				_ = rv.Release(ctx, partitions)
				return driver.ErrNotFound
			}}
		}},
}
