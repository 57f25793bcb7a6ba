package dovetail

import (
	"context"
	"iter"
	"reflect"

	"github.com/dovetail-go/dovetail/codec"
	"github.com/dovetail-go/dovetail/driver"
)

// A Survey is one request that every listening instance may answer
// (Scatter-Gather in Enterprise Integration Patterns; publish/asynchronous
// responses in Microservices Patterns).
type Survey[Req, Res any] struct {
	contract[Req]
	reply codec.Codec
}

// NewSurvey declares a survey by its name, as in "catalog.cache-view". Request
// and answers are encoded as JSON; its channel bears the contract's name.
func NewSurvey[Req, Res any](name string) Survey[Req, Res] {
	c := Survey[Req, Res]{newContract[Req](KindSurvey, name), defaultCodec[Res]()}
	c.spec.Reply = reflect.TypeFor[Res]()
	return c
}

// Version returns the contract's major version n.
func (c Survey[Req, Res]) Version(n int) Survey[Req, Res] {
	c.setVersion(n)
	return c
}

// On returns the contract on a channel that it may share with others.
func (c Survey[Req, Res]) On(channel Channel) Survey[Req, Res] {
	c.setChannel(channel)
	return c
}

// Encoded returns the contract with requests and answers encoded by cd.
func (c Survey[Req, Res]) Encoded(cd codec.Codec) Survey[Req, Res] {
	c.setCodec(cd)
	c.reply = cd
	return c
}

// An Answer is one instance's reply to a survey.
type Answer[Res any] struct {
	Service  string // who answered
	Instance string // and which of its instances
	Request  string // id of the survey's message that it answers
	Value    Res
}

// Gather asks every listening instance and yields the answers as they come,
// until Within has passed (by default the service's RequestTimeout), ctx ends,
// or as many came as Expect says. An instance that refused or failed is yielded
// with its error. With Quorum, it ends once so many distinct instances have
// succeeded; falling short yields *QuorumError at the end. Breaking out of the
// loop ends the gathering.
func (c Survey[Req, Res]) Gather(ctx context.Context, from Caller, req Req, opts ...GatherOption) iter.Seq2[Answer[Res], error] {
	return func(yield func(Answer[Res], error) bool) {
		gather(ctx, from, &c.contract, req, opts, func(m *driver.Message, err error) bool {
			var a Answer[Res]
			if err != nil {
				return yield(a, err)
			}
			a = Answer[Res]{Service: m.Source, Instance: m.Headers.Get(headerInstance), Request: m.CausationID}
			err = decodeReply(m, c.reply, &a.Value)
			return yield(a, err)
		})
	}
}

// Ask publishes the request and does not wait: answers come, whenever they
// come, to the handler that the asking service registered with Answers. In an
// outbox transaction it is asked if the transaction commits.
func (c Survey[Req, Res]) Ask(ctx context.Context, to Sender, req Req, opts ...SendOption) error {
	return ask(ctx, to, &c.contract, req, opts)
}

// Answers handles the answers to what this service asked with Ask, on a durable
// channel of the service's own, by any of its instances. An answer that is a
// refusal or a failure comes with its error.
func (c Survey[Req, Res]) Answers(svc *Service, handle func(ctx context.Context, a Answer[Res], err error) error, opts ...SubscribeOption) {
	svc.handleAnswers(&c, func(ctx context.Context, in *Delivery) error {
		m := in.Message
		a := Answer[Res]{Service: m.Source, Instance: m.Headers.Get(headerInstance), Request: m.CausationID}
		return handle(ctx, a, decodeReply(m, c.reply, &a.Value))
	}, opts)
}

// Handle answers the survey, once in each instance of the service. What goes
// wrong with the registration is returned by Run.
func (c Survey[Req, Res]) Handle(svc *Service, answer func(ctx context.Context, req Req) (Res, error), opts ...SubscribeOption) {
	svc.handle(&c, typedAnswer(&c.contract, c.reply, answer), append([]SubscribeOption{Broadcast()}, opts...))
}
