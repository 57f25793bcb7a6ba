package main

import (
	"errors"
	"fmt"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/spf13/cobra"
)

func (a *app) topologyRemove() *cobra.Command {
	var yes, force bool
	cmd := &cobra.Command{
		Use:   "remove CHANNEL",
		Short: "Remove a channel and its groups from the broker",
		Long: `Remove a channel and its groups from the broker, as for another number of
partitions. Stop the services that send to it first, and let the others handle what
is there: with messages in it a channel is not removed, unless --force is given. It
asks first, unless --yes is given. Services that start afterwards make it again.`,
		Example: `  dovetail topology remove ordering.orders
  dovetail topology remove ordering.orders --force --yes`,
		Args: arguments(1, 1, "the channel's name"),
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
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
		what := "channel " + name
		if info != nil {
			what = fmt.Sprintf("channel %s with %d groups and %s", name, len(info.Groups), leftText(info))
			if left(info) != 0 && !force {
				return fmt.Errorf("channel %s has %s: let its services handle them, or say --force to delete them for good", name, leftText(info))
			}
		}
		if !yes {
			if err := a.confirm(fmt.Sprintf("remove %s for good?", what)); err != nil {
				return err
			}
		}
		if err := r.RemoveChannel(ctx, name); err != nil {
			return err
		}
		a.note("channel %s removed", name)
		return nil
	}
	return cmd
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
