package dovetail

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// A subscription is one registered handler: what it handles, and how.
type subscription struct {
	spec    Spec
	wire    string         // the message type that it handles
	channel driver.Channel // that it comes on
	handler Handler        // one message at a time, or
	batch   BatchHandler   // several

	as          string
	concurrency int
	limited     bool // concurrency was given
	batchSize   int
	ordered     bool
	broadcast   bool
	anyType     bool
	timeout     time.Duration
	retry       *RetryPolicy
	middleware  []Middleware

	batchMiddleware []BatchMiddleware
}

func (s *Service) handle(c Contract, h Handler, opts []SubscribeOption) {
	s.subscribe(c, &subscription{handler: h}, h == nil, opts)
}

func (s *Service) handleBatch(c Contract, h BatchHandler, opts []SubscribeOption) {
	s.subscribe(c, &subscription{batch: h, batchSize: 100}, h == nil, opts)
}

// handleAnswers registers a handler for the answers to a survey that this
// service asks: on a channel of its own, with the type of a reply.
func (s *Service) handleAnswers(c Contract, h Handler, opts []SubscribeOption) {
	sub := &subscription{handler: h}
	sub.channel = driver.Channel{Name: answersChannel(s.name)}
	sub.wire = replyType(c.Spec().Type())
	s.subscribe(c, sub, h == nil, opts)
}

// subscribe records a registration and what is wrong with it.
func (s *Service) subscribe(c Contract, sub *subscription, missing bool, opts []SubscribeOption) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fail := func(err error) {
		s.errs = append(s.errs, err)
		if s.state != idle { // Run has looked at them already
			s.opts.Logger.Error("a handler was not registered", "service", s.name, "error", err)
		}
	}
	if err := c.Err(); err != nil {
		fail(err)
		return
	}
	sub.spec = c.Spec()
	if sub.wire == "" {
		sub.wire, sub.channel = sub.spec.Type(), sub.spec.Channel
	}
	for _, opt := range opts {
		opt(sub)
	}
	if err := errors.Join(sub.check(missing, s.state), s.validGroup(sub)); err != nil {
		fail(fmt.Errorf("service %s handles %s: %w", s.name, sub.wire, err))
		return
	}
	if i := slices.IndexFunc(s.subs, func(o *subscription) bool {
		return o.wire == sub.wire && o.as == sub.as && o.broadcast == sub.broadcast && o.channel.Name == sub.channel.Name
	}); i >= 0 {
		remedy := "name one of them with dovetail.Group"
		if sub.channel.Kind == driver.PointToPoint {
			remedy = "a point-to-point message has one handler: leave one out, or use an event"
		}
		fail(fmt.Errorf("service %s handles %s twice in group %s: %s", s.name, sub.wire, s.group(sub), remedy))
		return
	}
	if i := slices.IndexFunc(s.subs, func(o *subscription) bool {
		return o.anyType && sub.anyType && o.as == sub.as && o.broadcast == sub.broadcast && o.channel.Name == sub.channel.Name
	}); i >= 0 {
		fail(fmt.Errorf("service %s handles any type of channel %s by %s and by %s in group %s: give AnyType to one of them",
			s.name, sub.channel.Name, s.subs[i].wire, sub.wire, s.group(sub)))
		return
	}
	s.subs = append(s.subs, sub)
}

func (sub *subscription) check(missing bool, state serviceState) error {
	var errs []error
	if missing {
		errs = append(errs, errors.New("handler is nil: give a function"))
	}
	if state != idle {
		errs = append(errs, errors.New("registered after Run: register before"))
	}
	if sub.as != "" {
		if sub.channel.Kind == driver.PointToPoint {
			errs = append(errs, fmt.Errorf("Group(%q): a point-to-point channel has one group: leave Group out, or use an event", sub.as))
		}
	}
	if sub.anyType && (sub.spec.Kind == KindCall || sub.spec.Kind == KindSurvey) {
		errs = append(errs, errors.New("AnyType: what asks for an answer has a type: use an event, a command or a document"))
	}
	if sub.broadcast && sub.channel.Kind == driver.PointToPoint {
		errs = append(errs, errors.New("Broadcast: a message of a point-to-point channel goes to one instance: use an event"))
	}
	if sub.batch == nil && len(sub.batchMiddleware) > 0 {
		errs = append(errs, errors.New("UseBatch: the handler takes single messages: wrap it with Use"))
	}
	if sub.limited && sub.concurrency < 1 {
		errs = append(errs, fmt.Errorf("Concurrency(%d): want 1 or more, or leave it out for Options.Concurrency", sub.concurrency))
	}
	if slices.ContainsFunc(sub.middleware, func(m Middleware) bool { return m == nil }) {
		errs = append(errs, errors.New("Use: middleware is nil: leave it out"))
	}
	if slices.ContainsFunc(sub.batchMiddleware, func(m BatchMiddleware) bool { return m == nil }) {
		errs = append(errs, errors.New("UseBatch: middleware is nil: leave it out"))
	}
	if sub.timeout < 0 {
		errs = append(errs, fmt.Errorf("Timeout(%v): want a positive time, or 0 for none", sub.timeout))
	}
	if sub.batch == nil && sub.batchSize != 0 {
		errs = append(errs, fmt.Errorf("BatchSize(%d): the handler takes single messages: register it with SubscribeBatch or HandleBatch", sub.batchSize))
	}
	if sub.batch != nil && sub.batchSize < 1 {
		errs = append(errs, fmt.Errorf("BatchSize(%d): want 1 or more", sub.batchSize))
	}
	if sub.ordered && !sub.spec.Keyed {
		errs = append(errs, errors.New("Ordered: its messages have no key, in whose order they could come: declare the contract Keyed, or leave Ordered out"))
	}
	if sub.broadcast && sub.ordered {
		errs = append(errs, errors.New("Broadcast and Ordered: an instance that hears everything alone has its order already: leave Ordered out"))
	}
	if sub.retry != nil {
		p := sub.retry.withDefaults()
		sub.retry = &p
		if err := p.check("Retry"); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// group is the subscription's group: the service's, the one that As names, or,
// for a broadcast, one of the instance's own.
func (s *Service) group(sub *subscription) string {
	g := s.name
	if sub.as != "" {
		g += "." + sub.as
	}
	if sub.broadcast {
		g += broadcastMark + s.opts.Instance
	}
	return g
}

func sortSpecs(specs []Spec) {
	slices.SortFunc(specs, func(a, b Spec) int { return cmp.Compare(a.Type(), b.Type()) })
}

func sortFailures(fs []driver.SendFailure) {
	slices.SortFunc(fs, func(a, b driver.SendFailure) int { return cmp.Compare(a.Index, b.Index) })
}
