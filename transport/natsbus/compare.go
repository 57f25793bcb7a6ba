package natsbus

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go/jetstream"
)

// A stream or a consumer may have been made by somebody else. Its settings are
// compared with what Dovetail promises: what loses messages is refused with the
// remedy, and what may lose some is logged.

// leastAge is how long a stream has to keep messages at least: below it, a restart
// that takes a little longer loses some.
const leastAge = time.Hour

// judgeStream says which settings of a stream lose messages of its channel, and
// which may.
func judgeStream(ch driver.Channel, cfg *jetstream.StreamConfig) (loses, may []string) {
	lose := func(format string, args ...any) { loses = append(loses, fmt.Sprintf(format, args...)) }
	if !slices.ContainsFunc(cfg.Subjects, func(s string) bool { return s == wildcard(ch.Name) || s == ch.Name+".>" }) {
		lose("its subjects are %q: add %s", cfg.Subjects, wildcard(ch.Name))
	}
	switch {
	case cfg.MaxAge > 0 && cfg.MaxAge < leastAge:
		lose("max_age is %v, after which messages are gone, handled or not: set it to 0", cfg.MaxAge)
	case cfg.MaxAge > 0:
		may = append(may, fmt.Sprintf("max_age is %v, after which messages are gone, handled or not", cfg.MaxAge))
	}
	if cfg.Discard == jetstream.DiscardOld && (cfg.MaxMsgs > 0 || cfg.MaxBytes > 0) {
		lose("it is bounded (max_msgs %d, max_bytes %d) and discards the old, handled or not: set discard to new", cfg.MaxMsgs, cfg.MaxBytes)
	}
	if cfg.MaxMsgsPerSubject > 0 && !(cfg.Discard == jetstream.DiscardNew && cfg.DiscardNewPerSubject) {
		lose("max_msgs_per_subject is %d, and a subject carries many keys: set it to -1", cfg.MaxMsgsPerSubject)
	}
	if cfg.Storage == jetstream.MemoryStorage {
		lose("its storage is memory, which a restart empties: it has to be file")
	}
	if cfg.NoAck {
		lose("no_ack is set, so that no message is ever confirmed: remove it")
	}
	if cfg.Sealed {
		lose("it is sealed, and takes no message")
	}
	if cfg.Mirror != nil {
		lose("it mirrors %s, and takes no message of its own", cfg.Mirror.Name)
	}
	if cfg.SubjectTransform != nil {
		lose("subject_transform changes the subjects, which name the partitions: remove it")
	}
	if t := cfg.ConsumerLimits.InactiveThreshold; t > 0 {
		lose("consumer_limits.inactive_threshold is %v, after which a group that is not running is gone: remove it", t)
	}
	return loses, may
}

// judgeConsumer says which settings of a group's consumer lose messages, and which
// may.
func judgeConsumer(have, want *jetstream.ConsumerConfig) (loses, may []string) {
	lose := func(format string, args ...any) { loses = append(loses, fmt.Sprintf(format, args...)) }
	if have.MaxDeliver > 0 {
		lose("max_deliver is %d, after which a message is delivered no more: set it to -1", have.MaxDeliver)
	}
	if have.AckPolicy != jetstream.AckExplicitPolicy {
		lose("ack_policy is %v: it has to be explicit", have.AckPolicy)
	}
	if t := have.InactiveThreshold; t > 0 {
		lose("inactive_threshold is %v, after which a group that is not running is gone: set it to 0", t)
	}
	filters := have.FilterSubjects
	if have.FilterSubject != "" {
		filters = []string{have.FilterSubject}
	}
	if len(filters) > 0 && !slices.Contains(filters, want.FilterSubject) {
		lose("it is given %q alone: the filter has to be %s", filters, want.FilterSubject)
	}
	if have.HeadersOnly {
		lose("headers_only is set: messages come without their bodies")
	}
	if have.DeliverSubject != "" {
		lose("it pushes to %s: it has to be a pull consumer", have.DeliverSubject)
	}
	if have.MemoryStorage && !want.MemoryStorage {
		may = append(may, "its storage is memory: a restart of the server forgets what was settled")
	}
	return loses, may
}

// judged refuses what loses messages, and logs what may once for each object.
func (c *Conn) judged(what, name string, loses, may []string) error {
	if len(loses) > 0 {
		return fmt.Errorf("natsbus: %s %s %w: %s: change it, or remove it once it is empty", what, name, driver.ErrConflict, strings.Join(loses, "; "))
	}
	for _, text := range may {
		if _, told := c.told.LoadOrStore(what+" "+name+": "+text, true); !told {
			c.opts.Logger.Warn("natsbus: a setting may lose messages", what, name, "setting", text)
		}
	}
	return nil
}
