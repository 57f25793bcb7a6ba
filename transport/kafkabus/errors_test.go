package kafkabus

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestClassify_knows_what_the_server_and_the_client_say(t *testing.T) {
	c := &Conn{}
	for err, want := range map[error]driver.Kind{
		kerr.SaslAuthenticationFailed: driver.Denied, kerr.TopicAuthorizationFailed: driver.Denied, kerr.GroupAuthorizationFailed: driver.Denied,
		kerr.UnknownTopicOrPartition: driver.NotFound, kerr.MessageTooLarge: driver.TooLarge, kerr.NotEnoughReplicas: driver.Retryable,
		kerr.CoordinatorNotAvailable: driver.Retryable, kerr.OffsetOutOfRange: driver.PositionLost, kerr.InvalidReplicationFactor: driver.Conflict,
		kerr.UnsupportedVersion: driver.Unsupported, kgo.ErrRecordTimeout: driver.Retryable, kgo.ErrClientClosed: driver.Closed,
		errors.New("unknown broker"): driver.Retryable,
		context.DeadlineExceeded:     driver.Retryable, context.Canceled: driver.Canceled, errors.New("anything"): driver.Unclassified,
	} {
		if k := c.Classify(translate("test", fmt.Errorf("wrapped: %w", err))); k != want {
			t.Errorf("%v is %q, want %q", err, k, want)
		}
	}
}

func TestRefused_only_where_the_record_is_certainly_not_there(t *testing.T) {
	for err, want := range map[error]bool{
		kerr.MessageTooLarge: true, kerr.UnknownTopicOrPartition: true, kerr.TopicAuthorizationFailed: true, kerr.NotEnoughReplicas: true,
		kerr.NotEnoughReplicasAfterAppend: false, kerr.RequestTimedOut: false, kerr.UnknownServerError: false,
		kgo.ErrRecordTimeout: false, context.DeadlineExceeded: false, errors.New("read: connection reset"): false,
	} {
		if refused(err) != want {
			t.Errorf("refused(%v) is %v, want %v", err, !want, want)
		}
	}
}
