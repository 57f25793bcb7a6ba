package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/spf13/cobra"
)

func (a *app) topologyRemove() *cobra.Command {
	var yes, force bool
	var group string
	cmd := &cobra.Command{
		Use:   "remove CHANNEL",
		Short: "Remove a channel with its groups, or one of them, from the broker",
		Long: `Remove a channel and its groups from the broker, as for another number of
partitions. Stop the services that send to it first, and let the others handle what
is there: with messages in it a channel is not removed, unless --force is given. It
asks first, unless --yes is given. Services that start afterwards make it again.

With --group only this group is removed, that of a service which is no more: the
channel keeps messages for it. An instance's own group is called GROUP~INSTANCE.`,
		Example: `  dovetail topology remove ordering.orders
  dovetail topology remove ordering.orders --force --yes
  dovetail topology remove ordering.order-placed --group billing --force`,
		Args: arguments(1, 1, "the channel's name"),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().StringVar(&group, "group", "", "remove only this group")
	cmd.Flags().BoolVar(&force, "force", false, "with the messages that are in it")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, name := cmd.Context(), args[0]
		conn, done, err := a.connect(ctx)
		if err != nil {
			return err
		}
		defer done()
		r, err := ability[driver.Remover](conn, "remove a channel")
		if err != nil {
			return err
		}
		info, err := channelOf(ctx, conn, name)
		switch {
		case errors.Is(err, errNoChannel):
			return fmt.Errorf("there is no channel %s: dovetail topology shows what there is", name)
		case err != nil:
			return err
		}
		what, with, forced := "channel "+name, "", "delete them for good"
		remove := func() error { return r.RemoveChannel(ctx, name) }
		if group != "" {
			what, forced = "group "+group+" of channel "+name, "remove it all the same"
			remove = func() error { return r.RemoveGroup(ctx, name, group) }
			if info, err = onlyGroup(info, group); err != nil {
				return err
			}
		} else if info != nil {
			with = fmt.Sprintf("%d groups and ", len(info.Groups))
		}
		if info == nil && !force {
			return fmt.Errorf("this broker does not list its channels, so that nobody sees what is in %s, nor whether it is there: say --force to %s", what, forced)
		}
		if info != nil {
			if left(info) != 0 && !force {
				return fmt.Errorf("%s has %s: let its services handle them, or say --force to %s", what, leftText(info), forced)
			}
			with = " with " + with + leftText(info)
		}
		if !yes {
			if err := a.confirm(fmt.Sprintf("remove %s%s for good?", what, with)); err != nil {
				return err
			}
		}
		if err := remove(); err != nil {
			return err
		}
		a.note("%s removed", what)
		return nil
	}
	return cmd
}

// onlyGroup is the channel with only this group.
func onlyGroup(c *driver.ChannelInfo, group string) (*driver.ChannelInfo, error) {
	if c == nil {
		return nil, nil
	}
	var names []string
	for _, g := range c.Groups {
		if g.Name == group {
			one := *c
			one.Groups = []driver.GroupInfo{g}
			return &one, nil
		}
		names = append(names, g.Name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("channel %s has no groups", c.Channel.Name)
	}
	return nil, fmt.Errorf("channel %s has no group %s: it has %s", c.Channel.Name, group, strings.Join(names, ", "))
}

// left is how many messages of a channel somebody has not handled, -1 where the
// broker does not say.
func left(c *driver.ChannelInfo) int64 {
	if len(c.Groups) == 0 {
		return c.Messages
	}
	var n int64
	for _, g := range c.Groups {
		if g.Backlog < 0 || g.Pending < 0 {
			return -1
		}
		n += g.Backlog + g.Pending
	}
	return n
}

func leftText(c *driver.ChannelInfo) string {
	switch n := left(c); n {
	case -1:
		return "messages that this broker does not count"
	case 1:
		return "1 message that is not handled"
	default:
		return fmt.Sprintf("%d messages that are not handled", n)
	}
}
