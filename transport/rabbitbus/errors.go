package rabbitbus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// translate wraps an error of the client with the driver's error that says what
// it means, and with what was being done.
func translate(doing string, err error) error {
	if err == nil {
		return nil
	}
	if driver.Classify(err) != driver.Unclassified {
		return fmt.Errorf("rabbitbus: %s: %w", doing, err)
	}
	if meaning := meaningOf(err); meaning != nil {
		return fmt.Errorf("rabbitbus: %s: %w: %w", doing, meaning, err)
	}
	return fmt.Errorf("rabbitbus: %s: %w", doing, err)
}

// meaningOf returns the driver's error for one of the client or the server, or
// nil.
func meaningOf(err error) error {
	if errors.Is(err, errNoAnswer) {
		return driver.ErrRetryable
	}
	var e *amqp.Error
	if errors.As(err, &e) {
		switch {
		case isAway(e):
			return driver.ErrRetryable
		case e == amqp.ErrCredentials, e == amqp.ErrSASL, e == amqp.ErrVhost:
			return driver.ErrDenied
		case e.Code == amqp.NotFound:
			return driver.ErrNotFound
		case e.Code == amqp.AccessRefused, e.Code == amqp.NotAllowed:
			return driver.ErrDenied
		case e.Code == amqp.ContentTooLarge, serverMaximum(e) > 0:
			return driver.ErrTooLarge
		case e.Code == amqp.PreconditionFailed, e.Code == amqp.ResourceLocked:
			return driver.ErrConflict
		case e.Code == amqp.NotImplemented:
			return driver.ErrUnsupported
		}
		return driver.ErrRetryable // the connection or the channel has ended
	}
	var ne net.Error
	if errors.As(err, &ne) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return driver.ErrRetryable
	}
	return nil
}

// isCode reports whether err is the server's, with that reply code.
func isCode(err error, code int) bool {
	var e *amqp.Error
	return errors.As(err, &e) && e.Code == code && !isAway(e)
}

// isAway reports whether the server calls a queue not found because the node
// that has it is down or stopping: it comes back with the node, with all that it
// holds.
func isAway(e *amqp.Error) bool {
	return e.Code == amqp.NotFound && (strings.Contains(e.Reason, "down or inaccessible") || strings.Contains(e.Reason, "stopped by supervisor"))
}

var sizeRefused = regexp.MustCompile(`message size \d+ is larger than (?:configured )?max size (\d+)`)

// serverMaximum is the size that a message is larger than, where the server ended
// a channel for that; else 0.
func serverMaximum(err error) (most int) {
	var e *amqp.Error
	if errors.As(err, &e) && e.Code == amqp.PreconditionFailed {
		if m := sizeRefused.FindStringSubmatch(e.Reason); m != nil {
			most, _ = strconv.Atoi(m[1])
		}
	}
	return most
}

// isAckTimeout reports whether the server ended a channel because a delivery on
// it was not settled within consumer_timeout.
func isAckTimeout(err error) bool {
	var e *amqp.Error
	return errors.As(err, &e) && e.Code == amqp.PreconditionFailed && strings.Contains(e.Reason, "delivery acknowledgement") && strings.Contains(e.Reason, "timed out")
}

// Classify says what kind of error err is.
func (c *Conn) Classify(err error) driver.Kind {
	if k := driver.Classify(err); k != driver.Unclassified {
		return k
	}
	if meaning := meaningOf(err); meaning != nil {
		return driver.Classify(meaning)
	}
	return driver.Unclassified
}

// canceled is the end of ctx as an error of what was being done.
func canceled(ctx context.Context, doing string) error {
	return fmt.Errorf("rabbitbus: %s: %w", doing, context.Cause(ctx))
}
