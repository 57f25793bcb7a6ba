package natsbus

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go/jetstream"
)

// maxAckPending bounds what a group has in hand over all its instances; each
// instance's own bound is its window, and what the core sets aside: eight times
// as much. It is far above that because deliveries that wait for a retry count
// too, and at the bound the group stands still.
const maxAckPending = 262_144

// Provision makes the streams of channels and the consumers of subscriptions.
// A subscription's channel is made along with it.
func (c *Conn) Provision(ctx context.Context, channels []driver.Channel, subscriptions []driver.Subscription) error {
	if err := c.ready(); err != nil {
		return err
	}
	for _, ch := range channels {
		if err := c.provisionChannel(ctx, ch); err != nil {
			return err
		}
	}
	for _, s := range subscriptions {
		if err := c.validSubscription(s); err != nil {
			return err
		}
		if err := c.provisionChannel(ctx, s.Channel); err != nil {
			return err
		}
		if s.Broadcast || s.Channel.Transient {
			continue
		}
		if err := c.provisionGroup(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) validSubscription(s driver.Subscription) error {
	if err := driver.ValidName(s.Group); err != nil {
		return fmt.Errorf("natsbus: group %w", err)
	}
	switch {
	case s.Window < 1:
		return fmt.Errorf("natsbus: subscription of %s to %s: window is %d: want at least 1", s.Group, s.Channel.Name, s.Window)
	case s.Lease < 0:
		return fmt.Errorf("natsbus: subscription of %s to %s: lease is negative: leave it 0 for %v", s.Group, s.Channel.Name, c.opts.AckWait)
	case s.Broadcast && s.Channel.Kind == driver.PointToPoint && !s.Channel.Transient:
		return fmt.Errorf("natsbus: subscription of %s to %s: broadcast of a point-to-point channel is %w: make the channel publish–subscribe",
			s.Group, s.Channel.Name, driver.ErrUnsupported)
	case s.Ordered && !s.Broadcast && s.Channel.Transient:
		return refuseOrder(s)
	}
	return nil
}

func (c *Conn) provisionChannel(ctx context.Context, ch driver.Channel) error {
	if err := validChannel(ch); err != nil {
		return err
	}
	ctx, why, done := c.api(ctx, objectName(ch.Name))
	defer done()
	stream, err := c.js.Stream(ctx, objectName(ch.Name))
	switch {
	case err == nil:
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return translate("provision channel "+ch.Name, why(err))
	case ch.Transient:
		c.chans.put(transientState(ch.Name))
		return nil
	default:
		stream, err = c.js.CreateStream(ctx, c.streamConfig(ch))
		if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) { // another instance was faster
			stream, err = c.js.Stream(ctx, objectName(ch.Name))
		}
		if err != nil {
			return c.refused("provision channel "+ch.Name, why(err))
		}
	}
	cfg := stream.CachedInfo().Config
	if err := contradiction(ch, &cfg); err != nil {
		return err
	}
	loses, may := judgeStream(ch, &cfg)
	if err := c.judged("stream", cfg.Name, loses, may); err != nil {
		return err
	}
	if !cfg.AllowBatchPublish && cfg.Metadata[metaChannel] == ch.Name && c.serverAtLeast(2, 14) {
		cfg.AllowBatchPublish = true // the server was upgraded since
		if _, err := c.js.UpdateStream(ctx, cfg); err != nil {
			return c.refused("provision channel "+ch.Name, why(err))
		}
	}
	if s := c.chans.get(ch.Name); s == nil || s.transient || len(s.subjects) != partitionsOf(&cfg) || s.owners != ownersOf(&cfg) || !s.batches.Load() {
		c.chans.put(stateOf(ch.Name, &cfg))
	}
	return nil
}

// contradiction says how a stream that exists is not what is asked for.
func contradiction(ch driver.Channel, cfg *jetstream.StreamConfig) error {
	conflict := func(format string, args ...any) error {
		return fmt.Errorf("natsbus: channel %s %w: %s: remove the channel once it is empty, or declare it as it is",
			ch.Name, driver.ErrConflict, fmt.Sprintf(format, args...))
	}
	if ch.Transient {
		return conflict("it is kept in stream %s and cannot be transient", cfg.Name)
	}
	kind := driver.PublishSubscribe
	if cfg.Retention == jetstream.WorkQueuePolicy {
		kind = driver.PointToPoint
	}
	if kind != ch.Kind {
		return conflict("it is %v, not %v", kind, ch.Kind)
	}
	if have := partitionsOf(cfg); ch.Partitions != 0 && ch.Partitions != have {
		return conflict("it has %d partitions, not %d", have, ch.Partitions)
	}
	return nil
}

func (c *Conn) streamConfig(ch driver.Channel) jetstream.StreamConfig {
	partitions := ch.Partitions
	if partitions == 0 {
		partitions = c.opts.Partitions
	}
	cfg := jetstream.StreamConfig{
		Name:              objectName(ch.Name),
		Subjects:          []string{wildcard(ch.Name)},
		Retention:         jetstream.WorkQueuePolicy,
		Storage:           jetstream.FileStorage,
		Discard:           jetstream.DiscardNew, // a full channel refuses; it never forgets
		MaxBytes:          -1,
		Replicas:          c.opts.Replicas,
		Duplicates:        c.opts.Dedupe,
		AllowDirect:       true, // for browsing
		AllowBatchPublish: c.serverAtLeast(2, 14),
		Metadata: map[string]string{
			metaChannel:    ch.Name,
			metaKind:       ch.Kind.String(),
			metaPartitions: strconv.Itoa(max(1, partitions)),
		},
	}
	if partitions > 0 && c.serverAtLeast(2, 11) {
		cfg.Metadata[metaOwners] = "one"
	}
	if ch.Kind == driver.PublishSubscribe {
		cfg.Retention = jetstream.InterestPolicy
	}
	if c.opts.MaxBytes > 0 {
		cfg.MaxBytes = c.opts.MaxBytes
	}
	return cfg
}

func (c *Conn) provisionGroup(ctx context.Context, s driver.Subscription) error {
	doing := "provision group " + s.Group + " of channel " + s.Channel.Name
	st, err := c.channel(ctx, s.Channel.Name)
	if err != nil {
		return err
	}
	if s.Ordered && !st.owners {
		return refuseOrder(s)
	}
	for k := range st.consumers() {
		if err := c.provisionConsumer(ctx, s, c.consumerConfig(s, st, k), doing); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) provisionConsumer(ctx context.Context, s driver.Subscription, want jetstream.ConsumerConfig, doing string) error {
	stream := objectName(s.Channel.Name)
	ctx, why, done := c.api(ctx, stream)
	defer done()
	have, err := c.js.Consumer(ctx, stream, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		_, err = c.js.CreateConsumer(ctx, stream, want)
		if !errors.Is(err, jetstream.ErrConsumerExists) {
			return c.groupError(s, doing, why(err))
		}
		have, err = c.js.Consumer(ctx, stream, want.Durable) // another instance was faster
	}
	if err != nil {
		return translate(doing, why(err))
	}
	cfg := have.CachedInfo().Config
	loses, may := judgeConsumer(&cfg, &want)
	if err := c.judged("consumer", stream+" > "+want.Durable, loses, may); err != nil {
		return err
	}
	if cfg.AckWait == want.AckWait && cfg.MaxAckPending >= want.MaxAckPending {
		return nil
	}
	cfg.AckWait, cfg.MaxAckPending = want.AckWait, max(cfg.MaxAckPending, want.MaxAckPending)
	_, err = c.js.UpdateConsumer(ctx, stream, cfg)
	return c.refused(doing, why(err))
}

func (c *Conn) groupError(s driver.Subscription, doing string, err error) error {
	if errors.Is(translate(doing, err), driver.ErrConflict) && s.Channel.Kind == driver.PointToPoint {
		return fmt.Errorf("natsbus: %s: %w: a point-to-point channel has one group and another exists: remove that, or make the channel publish–subscribe: %w",
			doing, driver.ErrConflict, err)
	}
	return c.refused(doing, err)
}

// refused is translate for what the server does not make: what it calls a wrong
// request stays wrong when it is tried again.
func (c *Conn) refused(doing string, err error) error {
	api := (*jetstream.APIError)(nil)
	switch {
	case !errors.As(err, &api):
	case api.ErrorCode == codeNoCluster:
		return fmt.Errorf("natsbus: %s: %d replicas are %w: the server is not part of a cluster: leave the option replicas out, or connect to a cluster of as many servers: %w",
			doing, c.opts.Replicas, driver.ErrUnsupported, err)
	case api.Code == 400 && meaningOf(err) == nil:
		return fmt.Errorf("natsbus: %s: the server refused it: %w: %w", doing, driver.ErrConflict, err)
	}
	return translate(doing, err)
}

const codeNoCluster = 10074 // several replicas on a server without a cluster

// consumerConfig is the consumer of a group, of partition k where each has its
// own.
func (c *Conn) consumerConfig(s driver.Subscription, st *channelState, k int) jetstream.ConsumerConfig {
	cfg := jetstream.ConsumerConfig{
		Durable:       st.consumer(s.Group, k),
		FilterSubject: wildcard(s.Channel.Name),
		DeliverPolicy: jetstream.DeliverAllPolicy,
		AckPolicy:     jetstream.AckExplicitPolicy,
		AckWait:       c.lease(s),
		MaxDeliver:    -1,
		MaxAckPending: max(maxAckPending, 40*s.Window),
		MaxWaiting:    512,
		Metadata:      map[string]string{metaGroup: s.Group},
	}
	if s.Channel.Kind == driver.PublishSubscribe {
		cfg.DeliverPolicy = jetstream.DeliverNewPolicy
	}
	if s.Broadcast {
		// The group is the instance's own; it goes when the instance does.
		cfg.Durable = broadcastConsumer(s.GroupName())
		cfg.InactiveThreshold = c.opts.Expire
		cfg.Metadata = map[string]string{metaGroup: s.GroupName(), metaInstance: s.Instance}
		return cfg
	}
	if st.owners {
		cfg.FilterSubject = st.subjects[k]
		cfg.PriorityPolicy, cfg.PriorityGroups, cfg.PinnedTTL = jetstream.PriorityPolicyPinned, []string{ownerGroup}, c.opts.OwnerTTL
	}
	return cfg
}

func (c *Conn) lease(s driver.Subscription) time.Duration {
	if s.Lease > 0 {
		return s.Lease
	}
	return c.opts.AckWait
}

// serverAtLeast compares the version of the server that we are connected to.
func (c *Conn) serverAtLeast(major, minor int) bool {
	parts := strings.SplitN(c.nc.ConnectedServerVersion(), ".", 3)
	if len(parts) < 3 {
		return false
	}
	have, err1 := strconv.Atoi(parts[0])
	haveMinor, err2 := strconv.Atoi(parts[1])
	return err1 == nil && err2 == nil && (have > major || have == major && haveMinor >= minor)
}
