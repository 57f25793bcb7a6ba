package natsbus

import (
	"context"
	"errors"
	"fmt"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// translate wraps an error of the client with the driver's error that says what
// it means, and with what was being done.
func translate(doing string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, context.Canceled) || driver.Classify(err) != driver.Unclassified && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("natsbus: %s: %w", doing, err)
	}
	if meaning := meaningOf(err); meaning != nil {
		return fmt.Errorf("natsbus: %s: %w: %w", doing, meaning, err)
	}
	return fmt.Errorf("natsbus: %s: %w", doing, err)
}

func meaningOf(err error) error {
	switch {
	case errors.Is(err, nats.ErrConnectionClosed):
		return driver.ErrClosed
	case errors.Is(err, nats.ErrAuthorization), errors.Is(err, nats.ErrPermissionViolation),
		errors.Is(err, nats.ErrAuthExpired), errors.Is(err, nats.ErrAuthRevoked):
		return driver.ErrDenied
	case errors.Is(err, nats.ErrMaxPayload):
		return driver.ErrTooLarge
	case errors.Is(err, jetstream.ErrStreamNotFound), errors.Is(err, jetstream.ErrConsumerNotFound),
		errors.Is(err, jetstream.ErrConsumerDoesNotExist), errors.Is(err, jetstream.ErrConsumerDeleted):
		return driver.ErrNotFound
	case errors.Is(err, jetstream.ErrJetStreamNotEnabled), errors.Is(err, jetstream.ErrJetStreamNotEnabledForAccount):
		return driver.ErrUnsupported
	case errors.Is(err, nats.ErrTimeout), errors.Is(err, nats.ErrConnectionReconnecting), errors.Is(err, nats.ErrReconnectBufExceeded),
		errors.Is(err, nats.ErrDisconnected), errors.Is(err, nats.ErrNoServers), errors.Is(err, nats.ErrNoResponders),
		errors.Is(err, nats.ErrStaleConnection), errors.Is(err, context.DeadlineExceeded), errors.Is(err, nats.ErrInvalidConnection),
		errors.Is(err, jetstream.ErrNoStreamResponse):
		return driver.ErrRetryable
	}
	if api := (*jetstream.APIError)(nil); errors.As(err, &api) {
		return meaningOfCode(int(api.ErrorCode), api.Code)
	}
	return nil
}

// meaningOfCode maps JetStream's error codes (server/errors.json of
// nats-server) to the driver's errors.
func meaningOfCode(code, status int) error {
	switch code {
	case 10059, 10014: // stream not found, consumer not found
		return driver.ErrNotFound
	case 10054, 10097: // message size, header size exceeds maximum
		return driver.ErrTooLarge
	case 10058, 10148, 10013, 10065, 10099, 10100, 10101, 10105, 10106, 10052: // exists otherwise, subjects or consumers overlap
		return driver.ErrConflict
	case 10076, 10039: // not enabled
		return driver.ErrUnsupported
	case codeNoCluster:
		return driver.ErrUnsupported
	case 10002, 10005, 10007, 10008, 10009, 10023, 10028, 10047, 10077, // bounds of an account, of resources, of a stream; no leader
		10118, 10119, 10158, 10194, 10195, 10208: // offline, the same id under way, a batch that the server forgot
		return driver.ErrRetryable
	}
	switch status {
	case 429, 503:
		return driver.ErrRetryable
	}
	return nil
}
