package dovetail

import (
	"context"
	"reflect"

	"github.com/dovetail-go/dovetail/codec"
)

// A Call is a command that its one receiver replies to (Request-Reply, Return
// Address and Correlation Identifier in Enterprise Integration Patterns).
type Call[Req, Res any] struct {
	contract[Req]
	reply codec.Codec
}

// NewCall declares a call by its name, as in "catalog.reserve-stock". Request
// and reply are encoded as JSON; its channel bears the contract's name.
func NewCall[Req, Res any](name string) Call[Req, Res] {
	c := Call[Req, Res]{newContract[Req](KindCall, name), defaultCodec[Res]()}
	c.spec.Reply = reflect.TypeFor[Res]()
	return c
}

// Keyed returns the contract with a key: requests of one key are handled in
// order.
func (c Call[Req, Res]) Keyed(key func(Req) string) Call[Req, Res] {
	c.setKey(key)
	return c
}

// On returns the contract on a channel that it may share with others.
func (c Call[Req, Res]) On(channel Channel) Call[Req, Res] {
	c.setChannel(channel)
	return c
}

// Version returns the contract's major version n; receivers of other versions
// do not get its requests.
func (c Call[Req, Res]) Version(n int) Call[Req, Res] {
	c.setVersion(n)
	return c
}

// Encoded returns the contract with requests and replies encoded by cd.
func (c Call[Req, Res]) Encoded(cd codec.Codec) Call[Req, Res] {
	c.setCodec(cd)
	c.reply = cd
	return c
}

// AtMostOnce returns the contract on a transient channel: a request that finds
// no receiver, or whose receiver dies, is answered by the caller's time-out.
func (c Call[Req, Res]) AtMostOnce() Call[Req, Res] {
	c.spec.Channel.Transient = true
	return c
}

// Request asks and waits for the reply, until ctx ends or for as long as Within
// says, by default the service's RequestTimeout. The receiver's refusal comes
// back as *RemoteRefusal, its failure after the last attempt as *RemoteError. A
// request that nobody answered in time is ErrNoReply: it may or may not have
// been carried out, and asking again under the same ID is safe where the
// receiver has an inbox.
func (c Call[Req, Res]) Request(ctx context.Context, from Caller, req Req, opts ...RequestOption) (Res, error) {
	var res Res
	m, err := request(ctx, from, &c.contract, req, opts)
	if err != nil {
		return res, err
	}
	err = decodeReply(m, c.reply, &res)
	return res, err
}

// Handle answers the call. An error made by Refuse is an answer; any other is
// tried again by policy before the caller gets it. What goes wrong with the
// registration is returned by Run.
func (c Call[Req, Res]) Handle(svc *Service, answer func(ctx context.Context, req Req) (Res, error), opts ...SubscribeOption) {
	svc.handle(&c, typedAnswer(&c.contract, c.reply, answer), opts)
}
