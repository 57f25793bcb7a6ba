package natsbus

import (
	"context"
	"errors"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go/jetstream"
)

// Channels lists the channels that were provisioned through Dovetail, with
// their groups. Transient channels are nowhere written down and are not listed.
func (c *Conn) Channels(ctx context.Context) ([]driver.ChannelInfo, error) {
	if err := c.ready(); err != nil {
		return nil, err
	}
	var infos []driver.ChannelInfo
	streams := c.js.ListStreams(ctx)
	for s := range streams.Info() {
		name := s.Config.Metadata[metaChannel]
		if name == "" {
			continue
		}
		st := stateOf(name, &s.Config)
		infos = append(infos, driver.ChannelInfo{
			Channel:  driver.Channel{Name: name, Kind: st.kind, Partitions: len(st.subjects)},
			Messages: int64(s.State.Msgs),
		})
	}
	if err := streams.Err(); err != nil {
		return nil, translate("list channels", err)
	}
	for i := range infos {
		groups, err := c.groups(ctx, infos[i].Channel.Name)
		if err != nil && !isGone(err) {
			return nil, translate("list groups of channel "+infos[i].Channel.Name, err)
		}
		infos[i].Groups = groups
	}
	return infos, nil
}

func (c *Conn) groups(ctx context.Context, channel string) ([]driver.GroupInfo, error) {
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	stream, err := c.js.Stream(ctx, objectName(channel))
	if err != nil {
		return nil, err
	}
	var groups []driver.GroupInfo
	places := map[string]int{} // a group has a consumer for each partition that has owners
	consumers := stream.ListConsumers(ctx)
	for info := range consumers.Info() {
		name := groupOf(info)
		place, met := places[name]
		if !met {
			place = len(groups)
			places[name] = place
			groups = append(groups, driver.GroupInfo{Name: name})
		}
		groups[place].Backlog += int64(info.NumPending)
		groups[place].Pending += int64(info.NumAckPending)
	}
	return groups, consumers.Err()
}

// groupOf is the name of the group that a consumer serves. A broadcast
// subscription shows with the name of its own, "group~instance".
func groupOf(info *jetstream.ConsumerInfo) string {
	if name := info.Config.Metadata[metaGroup]; name != "" {
		return name
	}
	return nameOfObject(info.Name)
}

// RemoveChannel deletes a channel with all its messages and groups.
func (c *Conn) RemoveChannel(ctx context.Context, channel string) error {
	if err := c.ready(); err != nil {
		return err
	}
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	c.chans.drop(channel, nil)
	err := c.js.DeleteStream(ctx, objectName(channel))
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		return c.streamError(channel, err)
	}
	return translate("remove channel "+channel, err)
}

// RemoveGroup deletes a group, that of a broadcast subscription by its name
// "group~instance". What only it had not settled is deleted with it
// on a publish–subscribe channel, and stays on a point-to-point channel.
func (c *Conn) RemoveGroup(ctx context.Context, channel, group string) error {
	if err := c.ready(); err != nil {
		return err
	}
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	doing := "remove group " + group + " of channel " + channel
	stream, err := c.js.Stream(ctx, objectName(channel))
	if err != nil {
		return c.streamError(channel, err)
	}
	if strings.Contains(group, "~") {
		return translate(doing, c.js.DeleteConsumer(ctx, objectName(channel), broadcastConsumer(group)))
	}
	cfg := stream.CachedInfo().Config
	st := stateOf(channel, &cfg)
	for k := range st.consumers() {
		err := c.js.DeleteConsumer(ctx, objectName(channel), st.consumer(group, k))
		if err != nil && (k == 0 || !isGone(err)) {
			return translate(doing, err)
		}
	}
	return nil
}
