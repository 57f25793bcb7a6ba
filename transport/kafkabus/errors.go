package kafkabus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// translate wraps an error of the client with the driver's error that says what
// it means, and with what was being done.
func translate(doing string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) || driver.Classify(err) != driver.Unclassified && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("kafkabus: %s: %w", doing, err)
	}
	if meaning := meaningOf(err); meaning != nil {
		return fmt.Errorf("kafkabus: %s: %w: %w", doing, meaning, err)
	}
	return fmt.Errorf("kafkabus: %s: %w", doing, err)
}

func meaningOf(err error) error {
	var code *kerr.Error
	if errors.As(err, &code) {
		return meaningOfCode(code)
	}
	var network net.Error
	switch {
	case errors.Is(err, kgo.ErrClientClosed):
		return driver.ErrClosed
	case errors.Is(err, kgo.ErrRecordTimeout), errors.Is(err, kgo.ErrRecordRetries), errors.Is(err, context.DeadlineExceeded),
		errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.As(err, &network),
		kgo.IsRetryableBrokerErr(err), isUnknownBroker(err):
		return driver.ErrRetryable
	}
	return nil
}

// isUnknownBroker reports whether the client knows no broker of the number that
// leads a partition, as while brokers of a cluster come back. The client does not
// export that error.
func isUnknownBroker(err error) bool {
	return err != nil && strings.Contains(err.Error(), "unknown broker")
}

func meaningOfCode(code *kerr.Error) error {
	switch code {
	case kerr.UnknownTopicOrPartition, kerr.UnknownTopicID, kerr.GroupIDNotFound:
		return driver.ErrNotFound
	case kerr.TopicAuthorizationFailed, kerr.GroupAuthorizationFailed, kerr.ClusterAuthorizationFailed,
		kerr.SaslAuthenticationFailed, kerr.TransactionalIDAuthorizationFailed, kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState:
		return driver.ErrDenied
	case kerr.MessageTooLarge, kerr.RecordListTooLarge:
		return driver.ErrTooLarge
	case kerr.InvalidReplicationFactor, kerr.InvalidPartitions, kerr.InvalidConfig, kerr.PolicyViolation, kerr.InvalidTopicException,
		kerr.InconsistentGroupProtocol, kerr.NonEmptyGroup, kerr.InvalidSessionTimeout:
		return driver.ErrConflict
	case kerr.OffsetOutOfRange:
		return driver.ErrPositionLost
	case kerr.UnsupportedVersion:
		return driver.ErrUnsupported
	case kerr.RebalanceInProgress, kerr.IllegalGeneration, kerr.UnknownMemberID:
		return driver.ErrRetryable
	}
	if code.Retriable {
		return driver.ErrRetryable
	}
	return nil
}

// refused reports whether the server has answered that it did not take a record,
// so that it is certainly not there.
func refused(err error) bool {
	switch {
	case errors.Is(err, kerr.UnknownTopicOrPartition), errors.Is(err, kerr.UnknownTopicID), errors.Is(err, kerr.NotEnoughReplicas):
		return true
	case errors.Is(err, kerr.UnknownServerError):
		return false
	}
	var code *kerr.Error
	return errors.As(err, &code) && !code.Retriable
}

// unfit reports whether the server will never take a record for what it is, so
// that nobody sends it again and nothing behind it has to wait.
func unfit(err error) bool {
	return errors.Is(err, kerr.MessageTooLarge) || errors.Is(err, kerr.RecordListTooLarge) || errors.Is(err, kerr.InvalidRecord)
}
