package dovetail

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/dovetail-go/dovetail/codec"
	"github.com/dovetail-go/dovetail/driver"
)

// Kind is what a message of a contract is: the four kinds of Hohpe and Woolf
// (Enterprise Integration Patterns, "Message Construction"), with the two
// request/reply forms told apart.
type Kind string

// The kinds of contracts.
const (
	KindDocument Kind = "document" // data only
	KindCommand  Kind = "command"  // an operation and its arguments
	KindEvent    Kind = "event"    // something happened
	KindCall     Kind = "call"     // a command that one receiver replies to
	KindSurvey   Kind = "survey"   // a request that many receivers reply to
)

// A Spec describes a contract: what documentation, provisioning and telemetry
// need to know of it. It is a copy; changing it changes nothing.
type Spec struct {
	Kind        Kind
	Name        string         // "ordering.order-placed"
	Version     int            // the major version, from 1
	Channel     driver.Channel // where it travels
	ContentType string         // of the body
	Keyed       bool           // messages carry a key
	Body        reflect.Type   // the Go type of the body; of the request, for calls and surveys
	Reply       reflect.Type   // of the reply; nil where there is none
}

// Type returns the contract's name on the wire, "ordering.order-placed.v1".
func (s Spec) Type() string { return fmt.Sprintf("%s.v%d", s.Name, s.Version) }

// A Contract is an Event, Command, Document, Call or Survey.
type Contract interface {
	// Spec describes the contract.
	Spec() Spec
	// Err is what is wrong with the declaration, nil for a sound one. A
	// service reports it when the contract is used.
	Err() error
}

// A Channel is one that several contracts share, with On: order by key holds
// across them. Its kind follows from theirs; contracts of both kinds on one
// channel are refused at start-up.
type Channel struct {
	name       string
	partitions int
}

// NewChannel names a channel, in lower-case words as in "ordering.orders".
func NewChannel(name string) Channel { return Channel{name: name} }

// MaxPartitions is how many units of order a channel may have.
const MaxPartitions = 1024

// Partitions asks for n units of order, each with one owner at a time, where
// the transport has them; at most MaxPartitions. Changing it later breaks the
// order once.
func (c Channel) Partitions(n int) Channel {
	c.partitions = n
	return c
}

// contract is what all kinds of contracts have in common. T is the type of the
// body.
type contract[T any] struct {
	spec  Spec
	wire  string // spec.Type(), computed once
	codec codec.Codec
	key   func(T) string
	err   error
}

func newContract[T any](kind Kind, name string) contract[T] {
	c := contract[T]{codec: defaultCodec[T]()}
	c.spec = Spec{
		Kind:        kind,
		Name:        name,
		Version:     1,
		Channel:     driver.Channel{Name: name},
		ContentType: c.codec.ContentType(),
		Body:        reflect.TypeFor[T](),
	}
	if kind == KindEvent || kind == KindSurvey {
		c.spec.Channel.Kind = driver.PublishSubscribe
	}
	c.wire = c.spec.Type()
	if err := validName(name); err != nil {
		c.err = fmt.Errorf("%s contract: %w", kind, err)
	}
	return c
}

// defaultCodec is JSON, but for []byte, which travels as it is.
func defaultCodec[T any]() codec.Codec {
	if reflect.TypeFor[T]() == reflect.TypeFor[[]byte]() {
		return codec.Bytes
	}
	return codec.JSON
}

// Spec describes the contract.
func (c contract[T]) Spec() Spec { return c.spec }

// Err is what is wrong with the declaration, nil for a sound one.
func (c contract[T]) Err() error {
	if c.err == nil && c.codec == nil {
		return errZeroContract
	}
	return c.err
}

var errZeroContract = errors.New("contract is the zero value: declare it with NewEvent, NewCommand, NewDocument, NewCall or NewSurvey")

func (c *contract[T]) setKey(key func(T) string) {
	c.key = key
	c.spec.Keyed = key != nil
}

func (c *contract[T]) setChannel(ch Channel) {
	c.spec.Channel.Name = ch.name
	c.spec.Channel.Partitions = ch.partitions
	if err := validName(ch.name); err != nil && c.err == nil {
		c.err = fmt.Errorf("contract %s: channel %w", c.wire, err)
	}
	if ch.partitions < 0 && c.err == nil {
		c.err = fmt.Errorf("contract %s: channel %s: %d partitions: want 1 or more, or 0 for the transport's default", c.wire, ch.name, ch.partitions)
	}
	if ch.partitions > MaxPartitions && c.err == nil {
		c.err = fmt.Errorf("contract %s: channel %s: %d partitions: want at most %d: keys share partitions, of which a few for each instance are enough",
			c.wire, ch.name, ch.partitions, MaxPartitions)
	}
}

func (c *contract[T]) setVersion(major int) {
	if major < 1 && c.err == nil {
		c.err = fmt.Errorf("contract %s: major version %d: want 1 or more", c.spec.Name, major)
	}
	c.spec.Version = major
	c.wire = c.spec.Type()
}

func (c *contract[T]) setCodec(cd codec.Codec) {
	if cd == nil {
		if c.err == nil {
			c.err = fmt.Errorf("contract %s: codec is nil: leave Encoded out for JSON", c.wire)
		}
		return
	}
	c.codec = cd
	c.spec.ContentType = cd.ContentType()
}

// Decode reads the body of a message of this contract. Handlers get it decoded;
// this is for tests and tools.
func (c contract[T]) Decode(m *driver.Message) (T, error) { return c.decode(m) }

// decode reads a body by the content type that came with it, which need not be
// the one that this side would send; without one, by the contract's own. A
// contract of bytes takes every content type.
func (c *contract[T]) decode(m *driver.Message) (v T, err error) {
	cd := c.codec
	if m.ContentType != "" && m.ContentType != c.spec.ContentType && cd != codec.Bytes { // bytes are taken as they are
		if cd, err = codec.Lookup(m.ContentType); err != nil {
			return v, Permanent(fmt.Errorf("decode %s: %w", c.wire, err))
		}
	}
	if err := unmarshal(cd, m.Body, &v); err != nil {
		return v, Permanent(fmt.Errorf("decode %s: %w", c.wire, err))
	}
	return v, nil
}

// marshal encodes a value. A codec that panics is an error.
func marshal(cd codec.Codec, v any) (body []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its codec panicked: %v", p)
		}
	}()
	return cd.Marshal(v)
}

// unmarshal decodes a body. A codec that panics is an error.
func unmarshal(cd codec.Codec, body []byte, v any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("its codec panicked: %v", p)
		}
	}()
	return cd.Unmarshal(body, v)
}
