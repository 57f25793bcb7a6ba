package natsbus

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go/jetstream"
)

// A broadcast subscription has a consumer of its instance's own. It is durable,
// so that it survives a restart of the server, and outlives its receivers:
// RemoveGroup removes it, or the server does when its instance was away for
// Options.Expire.

// minExpire is the shortest Options.Expire: an instance that lost its link has
// to notice that and to reconnect, and servers elect another leader meanwhile.
const minExpire = 10 * time.Second

// broadcastConsumer is the name of the consumer of a broadcast group. What the
// server does not take in a name, or what is too long for one, is hashed.
func broadcastConsumer(group string) string {
	name, instance, _ := strings.Cut(group, "~")
	const longest = 240
	if driver.ValidName(instance) != nil || len(group) > longest {
		sum := sha256.Sum256([]byte(group))
		return objectName(name) + "~" + hex.EncodeToString(sum[:16])
	}
	return objectName(group)
}

// broadcast finds the consumer of a broadcast subscription, or makes it.
func (r *receiver) broadcast(ctx context.Context, st *channelState) (*jetstream.ConsumerInfo, error) {
	want := r.c.consumerConfig(r.s, st, 0)
	if !r.s.Resume {
		// What an earlier run of the instance left begins too early.
		if err := r.c.js.DeleteConsumer(ctx, r.stream, want.Durable); err != nil && !isGone(err) {
			return nil, err
		}
		made, err := r.c.js.CreateConsumer(ctx, r.stream, want)
		if err != nil {
			return nil, err
		}
		return made.CachedInfo(), nil
	}
	have, err := r.c.js.Consumer(ctx, r.stream, want.Durable)
	if errors.Is(err, jetstream.ErrConsumerNotFound) {
		return nil, r.expired()
	}
	if err != nil {
		return nil, err
	}
	if is := have.CachedInfo().Config; is.AckWait != want.AckWait || is.InactiveThreshold != want.InactiveThreshold {
		is.AckWait, is.InactiveThreshold = want.AckWait, want.InactiveThreshold
		if have, err = r.c.js.UpdateConsumer(ctx, r.stream, is); err != nil {
			return nil, err
		}
	}
	return have.CachedInfo(), nil
}

// expired says that the group of a broadcast subscription is gone.
func (r *receiver) expired() error {
	return fmt.Errorf("natsbus: receive as %s of channel %s: %w: its consumer was removed, or this instance was away for longer than %v (option expire): open the receiver without Resume to go on from now",
		r.s.GroupName(), r.s.Channel.Name, driver.ErrPositionLost, r.c.opts.Expire)
}
