package rabbitbus

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

// Names of queues and exchanges are made of those of channels and groups with
// characters that driver.ValidName forbids, so that no two clash and each can
// be undone:
//
//	orders            the queue of a point-to-point channel, or the exchange of another
//	orders#3          the queue of its partition 3, or the exchange
//	orders:billing    the queue of a group
//	orders:billing#3  the queue of a group's partition 3
//	orders:cache~i1   the queue of instance i1 of a broadcast
//	orders::members   a queue by which the receivers of partitions count each other
//	orders::2         what stands in for the queue of a transient channel whose node is gone
const (
	groupMark     = ":"
	instanceMark  = "~" // of driver.Subscription.GroupName
	partitionMark = "#"
	membersMark   = "::members"
)

// maxName is how long the name of a queue may be, in bytes.
const maxName = 255

const maxPartitions = 256

// partName is the name of partition k of the queue or exchange called base.
func partName(base string, k int) string { return base + partitionMark + strconv.Itoa(k) }

// partNames are the names of all partitions; partitions 0 means that base has
// none and stands for itself.
func partNames(base string, partitions int) []string {
	if partitions == 0 {
		return []string{base}
	}
	names := make([]string, partitions)
	for k := range names {
		names[k] = partName(base, k)
	}
	return names
}

// groupBase is the name, less the partition, of a group's queues.
func groupBase(ch driver.Channel, group string) string {
	if ch.Kind == driver.PointToPoint {
		return ch.Name
	}
	return ch.Name + groupMark + group
}

// instanceQueue is the queue of one instance of a broadcast.
func instanceQueue(s driver.Subscription) string {
	return s.Channel.Name + groupMark + s.GroupName()
}

func validChannel(ch driver.Channel) error {
	if err := driver.ValidName(ch.Name); err != nil {
		return fmt.Errorf("rabbitbus: channel %w", err)
	}
	if ch.Partitions < 0 || ch.Partitions > maxPartitions {
		return fmt.Errorf("rabbitbus: channel %s: %d partitions is %w: want 0 to %d", ch.Name, ch.Partitions, driver.ErrUnsupported, maxPartitions)
	}
	return nil
}

// validSubscription says what is wrong with s, or cannot be done.
func (c *Conn) validSubscription(s driver.Subscription) error {
	about := func(format string, args ...any) error {
		return fmt.Errorf("rabbitbus: subscription of "+s.Group+" to "+s.Channel.Name+": "+format, args...)
	}
	if err := driver.ValidName(s.Group); err != nil {
		return fmt.Errorf("rabbitbus: group %w", err)
	}
	switch {
	case s.Window < 1 || s.Window > 65_535:
		return about("a window of %d is %w: want 1 to 65535", s.Window, driver.ErrUnsupported)
	case s.Broadcast && s.Channel.Kind == driver.PointToPoint:
		return about("broadcast of a point-to-point channel is %w: make the channel publish–subscribe", driver.ErrUnsupported)
	case s.Ordered && !s.Broadcast && s.Channel.Transient:
		return about("order across instances is %w on a transient channel (AtMostOnce): leave one of the two out", driver.ErrUnsupported)
	case s.Ordered && !s.Broadcast && or(s.Channel.Partitions, c.opts.Partitions) == 0:
		return about("order across instances is %w without partitions: set partitions=8 in the URL, or run one instance", driver.ErrUnsupported)
	}
	if s.Broadcast {
		if err := driver.ValidName(s.Instance); err != nil {
			return fmt.Errorf("rabbitbus: instance %w", err)
		}
	}
	longest := groupBase(s.Channel, s.Group) + partName("", maxPartitions)
	if s.Broadcast {
		longest = instanceQueue(s)
	}
	if len(longest) > maxName {
		return about("its queue's name is %w: it would have %d bytes, and the server takes %d: use shorter names", driver.ErrUnsupported, len(longest), maxName)
	}
	return nil
}

// splitPart undoes partName; k is -1 for a name without a partition.
func splitPart(name string) (base string, k int) {
	i := strings.LastIndex(name, partitionMark)
	if i < 0 {
		return name, -1
	}
	k, err := strconv.Atoi(name[i+1:])
	if err != nil || k < 0 || k >= maxPartitions {
		return name, -1
	}
	return name[:i], k
}
