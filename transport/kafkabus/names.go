package kafkabus

import (
	"fmt"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

const (
	// topologyTopic keeps what Kafka has no room for. No channel can be called
	// so: names begin with a letter or digit.
	topologyTopic = "__dovetail"

	// removedPrefix and a channel's name make the topic that keeps which
	// messages were taken out of the channel.
	removedPrefix = "__dovetail.removed."

	// replyPrefix begins the names of reply channels, deadPrefix those of dead
	// letter channels, unhandledPrefix those of channels where messages wait for
	// an instance that handles their type.
	replyPrefix     = "reply."
	deadPrefix      = "dead."
	unhandledPrefix = "unhandled."
)

// groupID is the consumer group of a group's interest in a channel. Neither
// name contains "@".
func groupID(group, channel string) string { return group + "@" + channel }

// topicOf is the topic that carries a channel: of the same name, but for reply
// channels, "reply.<service>.<instance>", of which those of one service share
// one. An instance with a dot in its name gets one for what precedes the last.
func topicOf(channel string, transient bool) string {
	if driver.IsReply(channel, transient) {
		return channel[:strings.LastIndexByte(channel, '.')]
	}
	return channel
}

func isDead(channel string) bool { return strings.HasPrefix(channel, deadPrefix) }

// isKept reports whether what is in a channel stays until somebody removes it, or
// an instance handles it that may not have been written yet.
func isKept(channel string) bool {
	return isDead(channel) || strings.HasPrefix(channel, unhandledPrefix)
}

// isOurs reports whether a topic is no channel but notes of this package.
func isOurs(topic string) bool {
	return topic == topologyTopic || strings.HasPrefix(topic, removedPrefix)
}

func validChannel(ch driver.Channel) error {
	if err := driver.ValidName(ch.Name); err != nil {
		return fmt.Errorf("kafkabus: channel %w", err)
	}
	if ch.Partitions < 0 || ch.Partitions > maxPartitions {
		return fmt.Errorf("kafkabus: channel %s: %d partitions: %w: want 0 to %d", ch.Name, ch.Partitions, driver.ErrUnsupported, maxPartitions)
	}
	return nil
}

// maxPartitions is how many of all topics together one broker serves well, by
// Kafka's own advice. Making more for one topic takes longer than any call may.
const maxPartitions = 4000

func validGroup(group string) error {
	if err := driver.ValidName(group); err != nil {
		return fmt.Errorf("kafkabus: group %w", err)
	}
	return nil
}
