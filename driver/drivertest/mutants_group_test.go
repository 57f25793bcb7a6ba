package drivertest_test

import (
	"context"
	"errors"
	"sync"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/transport/membus"
)

// listening are the channels that somebody has opened a receiver of.
var listening sync.Map

var groupMutants = map[string]mutant{
	"drops what is published while nobody listens": {by: "Group_provisioned_gets_what_is_sent_while_none_listen",
		opened: func(r *linkReceiver) { listening.Store(r.s.Channel.Name, true) },
		send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
			var heard []*driver.Message
			for _, m := range ms {
				if _, ok := listening.Load(m.Channel); ok {
					heard = append(heard, m)
				}
			}
			return c.Send(ctx, heard)
		}},
	"makes a group begin with its receiver": {by: "Group_provisioned_gets_what_is_sent_while_none_listen|Group_provisioned_later_gets_only_what_is_sent_later",
		opening: func(c *membus.Conn, s *driver.Subscription) {
			if s.Channel.Kind == driver.PublishSubscribe && !s.Broadcast {
				_ = c.RemoveGroup(context.Background(), s.Channel.Name, s.Group)
				_ = c.Provision(context.Background(), nil, []driver.Subscription{*s})
			}
		}},
	"loses what is sent before a subscription": {by: "PointToPoint_keeps_what_is_sent_before_a_subscription",
		provision: func(c driver.Conn, ctx context.Context, chs []driver.Channel, subs []driver.Subscription) error {
			err := c.Provision(ctx, chs, subs)
			for _, s := range subs {
				if _, known := memo.LoadOrStore("p"+s.Channel.Name, true); !known && err == nil {
					_ = purge(ctx, c.(*membus.Conn), s.Channel.Name)
				}
			}
			return err
		}},
	"empties a channel that is provisioned again": {by: "Provision_again_keeps_what_is_there",
		provision: func(c driver.Conn, ctx context.Context, chs []driver.Channel, subs []driver.Subscription) error {
			for _, ch := range chs {
				_ = purge(ctx, c.(*membus.Conn), ch.Name)
			}
			return c.Provision(ctx, chs, subs)
		}},
	"takes a channel of another kind": {by: "Provision_with_another_kind_is_a_conflict",
		provision: func(c driver.Conn, ctx context.Context, chs []driver.Channel, subs []driver.Subscription) error {
			err := c.Provision(ctx, chs, subs)
			if errors.Is(err, driver.ErrConflict) {
				return nil
			}
			return err
		}},
	"takes a bad name": {by: "Provision_refuses_a_bad_name",
		provision: func(c driver.Conn, ctx context.Context, chs []driver.Channel, subs []driver.Subscription) error {
			err := c.Provision(ctx, chs, subs)
			if errors.Is(err, driver.ErrUnsupported) {
				return nil
			}
			return err
		}},
	"calls what cannot be provisioned unavailable": {by: "Provision_of_too_many_partitions_is_refused_at_once",
		provision: func(c driver.Conn, ctx context.Context, chs []driver.Channel, subs []driver.Subscription) error {
			err := c.Provision(ctx, chs, subs)
			if errors.Is(err, driver.ErrUnsupported) {
				return driver.ErrRetryable
			}
			return err
		}},
	"does not class a name that is too long": {by: "Provision_of_what_cannot_be_is_refused_for_good",
		provision: func(c driver.Conn, ctx context.Context, chs []driver.Channel, subs []driver.Subscription) error {
			err := c.Provision(ctx, chs, subs)
			if errors.Is(err, driver.ErrUnsupported) {
				return errors.New("bad request")
			}
			return err
		}},
	"provisions a channel without its group": {by: "Group_instances_compete",
		provision: func(c driver.Conn, ctx context.Context, chs []driver.Channel, _ []driver.Subscription) error {
			return c.Provision(ctx, chs, nil)
		}},
	"makes a group that nobody provisioned": {by: "OpenReceiver_of_an_unknown_group_is_not_found",
		opening: func(c *membus.Conn, s *driver.Subscription) {
			if !s.Broadcast {
				_ = c.Provision(context.Background(), nil, []driver.Subscription{*s})
			}
		}},
	"hands over only when nothing is in hand": {by: "Handover_moves_what_has_nothing_in_hand_at_once",
		opened: func(r *linkReceiver) {
			n, _ := memo.LoadOrStore("members"+r.s.Channel.Name, new([]driver.Receiver))
			of := n.(*[]driver.Receiver)
			*of = append(*of, r.inner)
			memo.Store(r.inner, of)
		},
		receive: func(r driver.Receiver, ctx context.Context, n int) ([]*driver.Delivery, error) {
			of, _ := memo.Load(r)
			if of != nil && len(*of.(*[]driver.Receiver)) > 1 && (*of.(*[]driver.Receiver))[1] == r {
				<-ctx.Done() // the first has something in hand, perhaps
				return nil, ctx.Err()
			}
			return r.Receive(ctx, n)
		}},
	"lists a group too few": {by: "Lister_tells_channels_and_groups", list: func(infos []driver.ChannelInfo) {
		for i := range infos {
			infos[i].Groups = infos[i].Groups[:min(1, len(infos[i].Groups))]
		}
	}},
	"lists every channel as point-to-point": {by: "Lister_tells_channels_and_groups", list: func(infos []driver.ChannelInfo) {
		for i := range infos {
			infos[i].Channel.Kind = driver.PointToPoint
		}
	}},
	"counts as backlog what is in hand": {by: "Backlogger_counts_what_waits", backlog: func(n int64) int64 { return n + 3 }},
	"removes no group": {by: "Remover_removes_channels_and_groups",
		removeGroup: func(*membus.Conn, context.Context, string, string) error { return nil }},
	"consumes what is browsed": {by: "Browser_pages_through_a_channel_and_consumes_nothing",
		browse: func(c *membus.Conn, ctx context.Context, channel, after string, max int) ([]driver.StoredMessage, error) {
			page, err := c.Browse(ctx, channel, after, max)
			for _, st := range page {
				_ = c.Remove(ctx, channel, []string{st.Position})
			}
			return page, err
		}},
	"browses from the beginning each time": {by: "Browser_pages_through_a_channel_and_consumes_nothing",
		browse: func(c *membus.Conn, ctx context.Context, channel, _ string, max int) ([]driver.StoredMessage, error) {
			return c.Browse(ctx, channel, "", max)
		}},
	"browses the newest first": {by: "Browser_pages_through_a_channel_and_consumes_nothing",
		browse: func(c *membus.Conn, ctx context.Context, channel, after string, max int) ([]driver.StoredMessage, error) {
			page, err := c.Browse(ctx, channel, after, max)
			for i, j := 0, len(page)-1; i < j; i, j = i+1, j-1 {
				page[i].Message, page[j].Message = page[j].Message, page[i].Message
			}
			return page, err
		}},
	"removes all when one is to be removed": {by: "Browser_removes_single_messages",
		remove: func(c *membus.Conn, ctx context.Context, channel string, _ []string) error {
			return purge(ctx, c, channel)
		}},
	"removes nothing":                         {by: "Browser_removes_single_messages", remove: func(*membus.Conn, context.Context, string, []string) error { return nil }},
	"does not admit that it cannot broadcast": {by: "Broadcast_reaches_each_instance", caps: func(c *driver.Capabilities) { c.Broadcast = false }},
	"does not admit that it cannot keep order": {by: "Order_demanded_beyond_ability_is_refused",
		caps: func(c *driver.Capabilities) { c.Order = driver.OrderInstance }},
	"has no name": {by: "Capabilities_name_the_transport", caps: func(c *driver.Capabilities) { c.Name = "" }},
	"has leases that it denies to extend": {by: "Lease_that_is_extended_holds|Lease_that_ran_out_brings_the_message_again",
		caps: func(c *driver.Capabilities) { c.Lease = 1 }},
	"classifies nothing": {by: "Classify_falls_back_on_the_driver's", classify: func(error) driver.Kind { return driver.Unclassified }},
}

// removeBroadcast removes the group of a broadcast receiver that is closed.
func removeBroadcast(r *linkReceiver, inner driver.Receiver, ctx context.Context, twice bool) error {
	err := inner.Close(ctx)
	if r.s.Broadcast && !twice {
		_ = r.l.conn().RemoveGroup(ctx, r.s.Channel.Name, r.s.GroupName())
	}
	return err
}

var broadcastMutants = map[string]mutant{
	"takes a broadcast for a group":                {by: "Broadcast_reaches_each_instance", opening: func(_ *membus.Conn, s *driver.Subscription) { s.Broadcast = false }},
	"lets a broadcast group end with its receiver": {by: "Broadcast_that_resumes_goes_on_where_it_was", close: removeBroadcast},
	"lets a broadcast that resumes begin from now": {by: "Broadcast_that_resumes_goes_on_where_it_was",
		opening: func(_ *membus.Conn, s *driver.Subscription) { s.Resume = false }},
	"lets a broadcast go on that does not ask for it": {by: "Broadcast_without_Resume_begins_from_now",
		opening: func(c *membus.Conn, s *driver.Subscription) {
			infos, _ := c.Channels(context.Background())
			for _, info := range infos {
				for _, g := range info.Groups {
					s.Resume = s.Resume || s.Broadcast && info.Channel.Name == s.Channel.Name && g.Name == s.GroupName()
				}
			}
		}},
	"makes a group for a broadcast that wants to resume": {by: "Broadcast_that_resumes_without_a_group_is_told",
		opening: func(c *membus.Conn, s *driver.Subscription) {
			if s.Resume {
				fresh := *s
				fresh.Resume = false
				if r, err := c.OpenReceiver(context.Background(), *s); err == nil {
					_ = r.Close(context.Background())
				} else if r, err := c.OpenReceiver(context.Background(), fresh); err == nil {
					_ = r.Close(context.Background())
				}
			}
		}},
	"removes no group of a broadcast": {by: "Broadcast_group_is_removed_by_its_name|Broadcast_that_resumes_without_a_group_is_told",
		removeGroup: func(c *membus.Conn, ctx context.Context, channel, group string) error { return nil }},
	"brings what a broadcast had settled again": {by: "Broadcast_that_resumes_goes_on_where_it_was",
		opened: func(r *linkReceiver) { memo.Store(r.inner, r.s.Broadcast) },
		settle: func(r driver.Receiver, ctx context.Context, ss []driver.Settlement) error {
			if broadcast, _ := memo.Load(r); broadcast == true {
				return nil
			}
			return r.Settle(ctx, ss)
		}},
	"loses what a broadcast had in hand": {by: "Broadcast_that_resumes_goes_on_where_it_was|Broadcast_reopened_over_and_over_under_load_loses_none",
		receive: inHands.receive,
		close: func(r *linkReceiver, inner driver.Receiver, ctx context.Context, twice bool) error {
			if r.s.Broadcast {
				return settlingAll(driver.Ack, 0)(r, inner, ctx, twice)
			}
			return inner.Close(ctx)
		}},
	"loses what comes while a link of a broadcast is cut": {by: "Broadcast_across_a_cut_link_loses_nothing",
		close: func(r *linkReceiver, inner driver.Receiver, ctx context.Context, twice bool) error {
			if r.l.addr == "" || ping(r.l.addr) == nil {
				return inner.Close(ctx)
			}
			return errors.Join(removeBroadcast(r, inner, ctx, twice), reopen(ctx, r))
		}},
	"has one group for all instances of a broadcast": {by: "Broadcast_of_another_instance_is_another_group|Broadcast_reaches_each_instance",
		opening: func(_ *membus.Conn, s *driver.Subscription) {
			if s.Broadcast {
				s.Instance = "all"
			}
		}},
	"names a broadcast group in its own way": {by: "Broadcast_group_is_removed_by_its_name", list: func(infos []driver.ChannelInfo) {
		for _, info := range infos {
			for i := range info.Groups {
				info.Groups[i].Name += "/1"
			}
		}
	}},
}

// reopen makes a broadcast group again, from now.
func reopen(ctx context.Context, r *linkReceiver) error {
	s := r.s
	s.Resume = false
	again, err := r.l.conn().OpenReceiver(ctx, s)
	if err != nil {
		return err
	}
	return again.Close(ctx)
}

var engineMutants = map[string]mutant{
	"says over a lost link that it has no incarnation": {by: "Incarnation_is_not_denied_over_a_lost_link", deniesIncarnation: true},
	"loses everything when it is restarted": {by: "Restart_keeps_what_waits_for_every_group",
		restarted: func(ctx context.Context, e *lab) error {
			c := e.bus.Connect()
			infos, err := c.Channels(ctx)
			for _, info := range infos {
				err = errors.Join(err, purge(ctx, c, info.Channel.Name))
			}
			return errors.Join(err, c.Close(ctx))
		}},
	"loses its groups when it is restarted": {by: "Restart_keeps_what_waits_for_every_group",
		restarted: func(ctx context.Context, e *lab) error {
			c := e.bus.Connect()
			infos, err := c.Channels(ctx)
			for _, info := range infos {
				for _, g := range info.Groups {
					if info.Channel.Kind == driver.PublishSubscribe {
						err = errors.Join(err, c.RemoveGroup(ctx, info.Channel.Name, g.Name), c.Provision(ctx, nil,
							[]driver.Subscription{{Channel: info.Channel, Group: g.Name}}))
					}
				}
			}
			return errors.Join(err, c.Close(ctx))
		}},
	"does not come back after a restart": {by: "Restart_keeps_what_was_unsettled|Restart_in_mid_stream_loses_nothing_confirmed",
		restarted: func(ctx context.Context, e *lab) error {
			e.m.send = func(driver.Conn, context.Context, []*driver.Message) error { return driver.ErrRetryable }
			return nil
		}},
	"says nothing of what its retention deleted": {by: "Trimmed_channel_tells_a_group_that_lost_messages", trimsInSilence: true},
	"calls every group lost when something was deleted": {by: "Trimmed_channel_is_nothing_to_a_group_that_is_on",
		opening: func(c *membus.Conn, s *driver.Subscription) {
			if _, trimmed := memo.Load("t" + s.Channel.Name); trimmed {
				s.Broadcast, s.Resume = true, true
			}
		},
		harness: func(h *drivertest.Harness) {
			trim := h.Trim
			h.Trim = func(ctx context.Context, channel string) error {
				memo.Store("t"+channel, true)
				return trim(ctx, channel)
			}
		}},
	"keeps its topology when it should lose it": {by: "Provision_after_a_loss_of_topology_works",
		harness: func(h *drivertest.Harness) { h.Forget = func(context.Context) error { return nil } }},
	"is durable and cannot be restarted":        {by: "Restart_keeps_what_was_unsettled", harness: func(h *drivertest.Harness) { h.Restart = nil }},
	"is shared and has no link to cut":          {by: "Broadcast_across_a_cut_link_loses_nothing", harness: func(h *drivertest.Harness) { h.Through = nil }},
	"is shared and no process gets there":       {by: "Partition_is_the_same_for_a_key_from_every_process", harness: func(h *drivertest.Harness) { h.KnownGaps = nil }},
	"is never full and does not say so":         {by: "Send_to_a_full_channel_ends_and_names_it", harness: func(h *drivertest.Harness) { h.Full = nil }},
	"takes nothing foreign and does not say so": {by: "Receive_takes_foreign_messages", harness: func(h *drivertest.Harness) { h.Inject = nil }},
}
