package natsbus

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
)

// Denials are what the server does not let this user do. It says so to the
// connection, not to the call, which gets no answer: whoever waits for one looks
// here as well.
type denials struct {
	mu    sync.Mutex
	at    map[string]time.Time // by subject
	calls map[*apiCall]struct{}
}

// maxDenials bounds what is remembered; a call needs the last moments alone.
const maxDenials = 1024

var deniedSubject = regexp.MustCompile(`(?i)violation for (publish|subscription) to "([^"]+)"`)

// note takes in an error outside any call and reports whether it is a denial.
func (d *denials) note(err error) bool {
	if !errors.Is(err, nats.ErrPermissionViolation) {
		return false
	}
	m := deniedSubject.FindStringSubmatch(err.Error())
	if m == nil {
		return false
	}
	subject := m[2]
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at == nil || len(d.at) >= maxDenials {
		d.at = map[string]time.Time{}
	}
	d.at[subject] = time.Now()
	for call := range d.calls {
		if strings.HasPrefix(subject, "$JS.API.") && strings.Contains(subject+".", "."+call.stream+".") {
			call.cancel(errDenied(subject))
		}
	}
	return true
}

// since returns an error that names a subject with one of the prefixes which
// was denied since then.
func (d *denials) since(then time.Time, prefixes ...string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for subject, at := range d.at {
		for _, p := range prefixes {
			if strings.HasPrefix(subject, p) && !at.Before(then) {
				return errDenied(subject)
			}
		}
	}
	return nil
}

// A denialWatch tells what the server denied since it began, for calls that get
// no answer. After a flush the server has said it: the client notes it before the
// flush returns, and tells foreignError later.
type denialWatch struct {
	c      *Conn
	began  time.Time
	before error
}

func (c *Conn) watchDenials() denialWatch {
	return denialWatch{c, time.Now(), c.nc.LastError()}
}

// of flushes, and returns an error that names a denied subject with the prefix.
func (w denialWatch) of(ctx context.Context, prefix string) error {
	if err := w.c.flush(ctx); err != nil {
		return err
	}
	if err := w.c.nc.LastError(); err != w.before && errors.Is(err, nats.ErrPermissionViolation) {
		if m := deniedSubject.FindStringSubmatch(err.Error()); m != nil && strings.HasPrefix(m[2], prefix) {
			return errDenied(m[2])
		}
	}
	return w.c.denials.since(w.began, prefix)
}

func errDenied(subject string) error {
	return fmt.Errorf("%w: the server does not let this user use subject %s: grant it, as docs/transports/nats.md says", driver.ErrDenied, subject)
}

// An apiCall is a request to JetStream's API about a stream, under way.
type apiCall struct {
	stream string
	cancel context.CancelCauseFunc
}

// api is deadline for requests about a stream; it also ends when one is denied.
// why returns that, or err.
func (c *Conn) api(ctx context.Context, stream string) (_ context.Context, why func(err error) error, done func()) {
	ctx, stop := c.deadline(ctx)
	ctx, cancel := context.WithCancelCause(ctx)
	call := &apiCall{stream, cancel}
	d := &c.denials
	d.mu.Lock()
	if d.calls == nil {
		d.calls = map[*apiCall]struct{}{}
	}
	d.calls[call] = struct{}{}
	d.mu.Unlock()
	why = func(err error) error {
		if cause := context.Cause(ctx); err != nil && errors.Is(cause, driver.ErrDenied) {
			return cause
		}
		return err
	}
	return ctx, why, func() {
		d.mu.Lock()
		delete(d.calls, call)
		d.mu.Unlock()
		cancel(nil)
		stop()
	}
}
