package natsbus

import (
	"fmt"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

// What a stream or a consumer of ours says of itself, in its metadata.
const (
	metaChannel    = "dovetail-channel"
	metaKind       = "dovetail-kind"
	metaPartitions = "dovetail-partitions"
	metaOwners     = "dovetail-owners"
	metaGroup      = "dovetail-group"
	metaInstance   = "dovetail-instance"
)

// objectName is the name of the stream of a channel, or of the consumer of a
// group. The server forbids dots in both, and driver.ValidName forbids the plus
// sign, so that the mapping can be undone.
func objectName(name string) string { return strings.ReplaceAll(name, ".", "+") }

func nameOfObject(object string) string { return strings.ReplaceAll(object, "+", ".") }

// partName is the name of a group's consumer of one partition.
func partName(group string, k int) string { return fmt.Sprintf("%s=%d", objectName(group), k) }

// partitionSubject is the subject of partition k of a channel. It has one token
// more than the channel's name, so no two channels share a subject.
func partitionSubject(channel string, k int) string { return fmt.Sprintf("%s.p%d", channel, k) }

// wildcard is the subjects that a channel's stream keeps and a group consumes.
func wildcard(channel string) string { return channel + ".*" }

// transientSubject is the subject of a channel that is not kept.
func transientSubject(channel string) string { return channel + ".t" }

// partitionOf reads the partition out of a subject.
func partitionOf(subject string) int {
	i := strings.LastIndexByte(subject, '.')
	if i < 0 || i+2 >= len(subject)+1 || i+1 >= len(subject) || subject[i+1] != 'p' {
		return 0
	}
	n := 0
	for _, c := range []byte(subject[i+2:]) {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + int(c-'0')
		if n > maxPartitions {
			return 0
		}
	}
	return n
}

const maxPartitions = 1024

func validChannel(ch driver.Channel) error {
	if err := driver.ValidName(ch.Name); err != nil {
		return fmt.Errorf("natsbus: channel %w", err)
	}
	if ch.Partitions < 0 || ch.Partitions > maxPartitions {
		return fmt.Errorf("natsbus: channel %s: %d partitions are %w: want 0 to %d", ch.Name, ch.Partitions, driver.ErrUnsupported, maxPartitions)
	}
	return nil
}
