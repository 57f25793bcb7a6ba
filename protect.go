package dovetail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"

	"github.com/dovetail-go/dovetail/driver"
)

// What a program gives to the service runs here: handlers, hooks, codecs, key
// functions, functions of OnDeadLetter, the methods of errors. Its panic is an
// error, and never the end of the process.

// guarded returns f's error, or its panic as a *PanicError.
func guarded(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{v, debug.Stack()}
		}
	}()
	return f()
}

var errLeft = errors.New("it ended its goroutine (runtime.Goexit, as t.FailNow does)")

// apart is guarded in a goroutine of its own, which f may end without ending
// that of who calls it.
func apart(f func() error) error {
	ended := make(chan error, 1)
	go func() {
		err := errLeft
		defer func() { ended <- err }()
		err = guarded(f)
	}()
	return <-ended
}

// protect calls a handler, and turns its panic into an error with its stack.
func protect(h Handler, ctx context.Context, in *Delivery) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{v, debug.Stack()}
		}
	}()
	return sound(h(ctx, in))
}

// protectBatch is protect for a batch handler; broken is its panic.
func protectBatch(h BatchHandler, ctx context.Context, ins []*Delivery) (errs []error, broken error) {
	defer func() {
		if v := recover(); v != nil {
			errs, broken = nil, asPanic(v)
		}
	}()
	errs = h(ctx, ins)
	switch len(errs) {
	case len(ins):
	case 0:
		errs = make([]error, len(ins))
	default: // it is not known which messages were handled: each of them has failed
		wrong := errCount(len(errs), len(ins))
		errs = make([]error, len(ins))
		for i := range errs {
			errs[i] = wrong
		}
	}
	for i, err := range errs {
		errs[i] = sound(err)
	}
	return errs, nil
}

// sound is err, or where its methods panic, as those of a typed nil do, an error
// that says so.
func sound(err error) error {
	if err == nil {
		return nil
	}
	panicked := guarded(func() error {
		_ = err.Error()
		(&RetryPolicy{}).classify(err, 1) // walks it as the service does
		var p *PanicError
		_ = errors.As(err, &p)
		return nil
	})
	if p, ok := panicked.(*PanicError); ok {
		return &PanicError{fmt.Sprintf("error of type %T has a method that panics: %v", err, p.Value), p.Stack}
	}
	return err
}

// errText is err's text.
func errText(err error) (text string) {
	defer func() {
		if v := recover(); v != nil {
			text = fmt.Sprintf("error of type %T has a method that panics: %v", err, v)
		}
	}()
	return err.Error()
}

// prepareHook calls the hooks for messages that are handed over.
func (s *Service) prepareHook(ctx context.Context, messages []*driver.Message) {
	for _, prepare := range s.hooks.prepare {
		s.hook("Prepare", func() error {
			prepare(ctx, messages)
			return nil
		})
	}
}

// sendHook calls the hooks for what is sent. It returns the context to send with
// and what to call with the outcome, which may be nil.
func (s *Service) sendHook(ctx context.Context, messages []*driver.Message) (context.Context, func(error)) {
	var after []func(error)
	for _, send := range s.hooks.send {
		ctx = s.around("Send", ctx, &after, func() (context.Context, func(error)) { return send(ctx, messages) })
	}
	return ctx, s.afterHooks("Send", after)
}

// handleHook calls the hooks for an attempt, as sendHook does for what is sent.
func (s *Service) handleHook(ctx context.Context, in *Delivery) (context.Context, func(error)) {
	var after []func(error)
	for _, handle := range s.hooks.handle {
		ctx = s.around("Handle", ctx, &after, func() (context.Context, func(error)) { return handle(ctx, in) })
	}
	return ctx, s.afterHooks("Handle", after)
}

// around calls a hook that has an end, and returns the context that it gave, or
// ctx where it gave none.
func (s *Service) around(name string, ctx context.Context, after *[]func(error), call func() (context.Context, func(error))) context.Context {
	s.hook(name, func() error {
		hooked, end := call()
		if hooked != nil {
			ctx = hooked
		}
		if end != nil {
			*after = append(*after, end)
		}
		return nil
	})
	return ctx
}

// afterHooks calls the ends of hooks, that of the first last.
func (s *Service) afterHooks(name string, after []func(error)) func(error) {
	if len(after) == 0 {
		return nil
	}
	return func(err error) {
		for _, end := range slices.Backward(after) {
			s.hook(name, func() error {
				end(err)
				return nil
			})
		}
	}
}

// hook calls a hook. One that panics is logged, and changes nothing: what it
// watches goes on.
func (s *Service) hook(name string, call func() error) { s.hooked(name, guarded(call)) }

// hooked logs how a hook ended that did not return.
func (s *Service) hooked(name string, err error) {
	if err != nil {
		s.opts.Logger.Error("hook panicked", "service", s.name, "hook", name, "error", errText(err))
	}
}

// soundLog is the program's log, whose panics are dropped: there is nowhere to
// tell of them.
type soundLog struct{ slog.Handler }

func (l soundLog) Enabled(ctx context.Context, level slog.Level) (enabled bool) {
	defer func() { _ = recover() }()
	return l.Handler.Enabled(ctx, level)
}

func (l soundLog) Handle(ctx context.Context, r slog.Record) (err error) {
	return guarded(func() error { return l.Handler.Handle(ctx, r) })
}

func (l soundLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return soundLog{l.Handler.WithAttrs(attrs)}
}

func (l soundLog) WithGroup(name string) slog.Handler { return soundLog{l.Handler.WithGroup(name)} }
