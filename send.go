package dovetail

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
)

// Prepare makes messages ready to be sent in the service's name, without
// sending them: it sets their Source, has hooks add to them, and checks that their
// contracts are declared, that they are within the service's limits and the
// transport's, and that every transport and store can carry their texts and times.
// What is wrong is ErrInvalid, and names the field. Outboxes call it when a message
// is handed to them, with the context of who sends it.
func (s *Service) Prepare(ctx context.Context, messages []*driver.Message) error {
	declared := *s.sends.Load()
	for _, m := range messages {
		if _, ok := declared[m.Type]; !ok {
			return fmt.Errorf("%w: service %s sends %s: add svc.Declare(…) with it before Run", ErrUndeclared, s.name, m.Type)
		}
		if m.Source == "" {
			m.Source = s.name
		}
	}
	s.prepareHook(ctx, messages)
	for i, m := range messages {
		if err := s.sendable(m); err != nil {
			return fmt.Errorf("message %d (%s): %w", i, m.Type, err)
		}
	}
	return nil
}

// sendable returns an ErrInvalid if m is over the service's limits or the
// transport's, or malformed.
func (s *Service) sendable(m *driver.Message) error {
	if err := s.opts.Limits.check(m); err != nil {
		return err
	}
	var err error
	if s.fitter != nil {
		err = s.fitter.Fits(m)
	} else {
		err = s.caps.Fits(m)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return nil
}

// Send sends messages and returns once the broker has confirmed them all.
// Callers use the contracts' own methods. While the broker is away it is tried
// again until ctx ends or the service's SendTimeout has passed; *SendError then
// names by index what was not confirmed. With the context of an open transaction
// it is ErrInTransaction.
func (s *Service) Send(ctx context.Context, messages []*driver.Message) error {
	if len(messages) == 0 {
		return nil
	}
	if err := outside(ctx, messages[0].Type); err != nil {
		return err
	}
	if err := s.Prepare(ctx, messages); err != nil {
		return err
	}
	if !s.caps.Delay {
		for _, m := range messages {
			if !m.Due.IsZero() {
				return fmt.Errorf("send %s: %s cannot delay a message: send it through an outbox, whose store can: %w", m.Type, s.caps.Name, driver.ErrUnsupported)
			}
		}
	}
	ctx, after := s.sendHook(ctx, messages)
	until := time.Now().Add(s.opts.SendTimeout)
	err := s.provisionInTime(ctx, messages, until)
	switch {
	case err != nil:
	case len(messages) == 1:
		err = (*s.sends.Load())[messages[0].Type].single.send(ctx, s, messages, until)
	default:
		err = s.deliver(ctx, messages, until)
	}
	if after != nil {
		after(err)
	}
	if err != nil {
		return fmt.Errorf("send %s on channel %s: %w", messages[0].Type, messages[0].Channel, err)
	}
	return nil
}

// Relay hands messages to the transport, once. They were prepared when they were
// handed over, and are not checked again. Relays of outboxes call it; its errors
// are the transport's, as of driver.Conn's Send.
func (s *Service) Relay(ctx context.Context, messages []*driver.Message) error {
	err := s.carry(ctx, messages)
	s.counts.sent.Add(int64(confirmed(err, len(messages))))
	return err
}

// carry hands messages to the transport, and tells hooks.
func (s *Service) carry(ctx context.Context, messages []*driver.Message) error {
	ctx, after := s.sendHook(ctx, messages)
	err := s.conn.Send(ctx, messages)
	if after != nil {
		after(err)
	}
	return err
}

// confirmed returns how many of n messages were confirmed, as err says.
func confirmed(err error, n int) int {
	var se *SendError
	switch {
	case err == nil:
		return n
	case errors.As(err, &se):
		return n - len(se.Failures)
	}
	return 0
}

// provisionInTime provisions what the service sends, unless that was done,
// trying again for as long as a send does.
func (s *Service) provisionInTime(ctx context.Context, messages []*driver.Message, until time.Time) error {
	if s.provisioned() {
		return nil
	}
	ctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	for {
		err := s.provision(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() != nil || !s.isRetryable(err) {
			d := newPendingSend(s, messages)
			d.fail(err)
			return d.result()
		}
	}
}

// isRetryable reports whether an error may be gone with the next attempt.
func (s *Service) isRetryable(err error) bool {
	kind := s.conn.Classify(err)
	return kind == driver.Retryable || kind == driver.Unclassified
}

// deliver hands messages to the transport until each is confirmed, refused for
// good, or time is up. The first attempt is bounded as well: a transport may wait
// for room in a channel that is full.
func (s *Service) deliver(ctx context.Context, messages []*driver.Message, until time.Time) error {
	timed := &deadlineContext{Context: ctx, until: until}
	defer timed.release()
	err := s.conn.Send(timed, messages)
	if err == nil {
		s.counts.sent.Add(int64(len(messages)))
		return nil
	}
	return newPendingSend(s, messages).retry(timed, err)
}

// A pendingSend is what is left of a send that did not succeed at once.
type pendingSend struct {
	s       *Service
	pending []*driver.Message
	index   []int   // of pending, in the caller's slice
	last    []error // why each of pending is; empty when none of them was sent
	unsure  []bool  // by index: an attempt had an unknown outcome, which later ones do not change
	failed  SendError

	round          int   // attempts that failed
	reprovisioned  int   // the round in which topology was provisioned again
	reprovisionErr error // what came of that
}

// sendPolicy paces attempts at a send.
var sendPolicy = RetryPolicy{First: 10 * time.Millisecond, Max: 2 * time.Second}.withDefaults()

func newPendingSend(s *Service, messages []*driver.Message) *pendingSend {
	d := &pendingSend{s: s, pending: messages, index: make([]int, len(messages)), unsure: make([]bool, len(messages))}
	for i := range d.index {
		d.index[i] = i
	}
	return d
}

func (d *pendingSend) retry(ctx context.Context, err error) error {
	for attempt := 1; ; attempt++ {
		retry := d.dropResolved(ctx, err)
		if len(d.pending) == 0 {
			return d.result()
		}
		if !retry || !backoff.Sleep(ctx, sendPolicy.Wait(attempt)) {
			d.fail(err)
			return d.result()
		}
		if err = d.s.conn.Send(ctx, d.pending); err == nil {
			d.s.counts.sent.Add(int64(len(d.pending)))
			d.pending = nil
			return d.result()
		}
	}
}

// dropResolved drops from pending what was confirmed and what failed for good, and
// reports whether trying again may help what is left.
func (d *pendingSend) dropResolved(ctx context.Context, err error) (retry bool) {
	var se *SendError
	d.round++
	d.last = d.last[:0]
	if !errors.As(err, &se) {
		return d.isRetryable(ctx, err)
	}
	sortFailures(se.Failures) // one out of its place would be taken for confirmed
	pending, index := d.pending[:0:0], d.index[:0:0]
	confirmed, next := 0, 0
	for i := range d.pending {
		if next == len(se.Failures) || se.Failures[next].Index != i {
			confirmed++
			continue
		}
		f := se.Failures[next]
		next++
		at := d.index[i]
		d.unsure[at] = d.unsure[at] || f.Unknown
		if d.isRetryable(ctx, f.Err) || f.Unknown {
			pending, index = append(pending, d.pending[i]), append(index, at)
			d.last = append(d.last, f.Err)
		} else {
			d.failed.Fail(at, f.Err, d.unsure[at])
		}
	}
	d.s.counts.sent.Add(int64(confirmed))
	d.pending, d.index = pending, index
	return true
}

// isRetryable reports whether an error may be gone with the next attempt. If
// channels are not found everything is provisioned again, in one round, for the
// broker may have lost it; channels that are not found after that do not exist.
func (d *pendingSend) isRetryable(ctx context.Context, err error) bool {
	if d.s.conn.Classify(err) != driver.NotFound {
		return d.s.isRetryable(err)
	}
	if d.reprovisioned == 0 || d.reprovisioned < d.round && d.reprovisionErr != nil {
		d.reprovisioned = d.round
		d.reprovisionErr = d.s.Provision(ctx)
	}
	if d.reprovisionErr != nil {
		return d.s.isRetryable(d.reprovisionErr)
	}
	return d.reprovisioned == d.round
}

// fail records, for all that is pending, why.
func (d *pendingSend) fail(err error) {
	for i, at := range d.index {
		cause := err
		if i < len(d.last) {
			cause = d.last[i]
		}
		d.failed.Fail(at, cause, d.unsure[at])
	}
}

func (d *pendingSend) result() error {
	if len(d.failed.Failures) == 0 {
		return nil
	}
	sortFailures(d.failed.Failures)
	for _, f := range d.failed.Failures {
		if f.Unknown {
			return &unknownOutcome{&d.failed}
		}
	}
	return &d.failed
}

// unknownOutcome is a SendError of which some may have been sent: it is
// ErrUnknownOutcome as well.
type unknownOutcome struct{ *SendError }

func (e *unknownOutcome) Is(target error) bool { return target == ErrUnknownOutcome }
func (e *unknownOutcome) Unwrap() error        { return e.SendError }
