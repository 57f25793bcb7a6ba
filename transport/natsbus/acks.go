package natsbus

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nuid"
)

// An ackInbox receives the server's answers to what a connection publishes, on
// one subscription for all of them: a flight is found by the token that follows
// the prefix.
type ackInbox struct {
	nc     *nats.Conn
	prefix string
	unique string // makes tokens unique among all connections, as the server wants of batches
	next   atomic.Uint64

	mu      sync.Mutex
	flights map[string]flight
}

// A flight awaits answers. rest is the answer's subject after the token.
// answer is called by one goroutine of the client and must not block.
type flight interface {
	answer(rest string, m *nats.Msg)
}

func newAckInbox(nc *nats.Conn) (*ackInbox, error) {
	a := &ackInbox{nc: nc, prefix: nc.NewInbox() + ".", unique: uniqueName(), flights: map[string]flight{}}
	sub, err := nc.Subscribe(a.prefix+">", a.dispatch)
	if err != nil {
		return nil, err
	}
	// Answers are bounded by the windows of those who wait for them.
	return a, sub.SetPendingLimits(-1, -1)
}

func uniqueName() string { return nuid.Next()[10:] }

// open registers f and returns its token.
func (a *ackInbox) open(f flight) string {
	token := a.unique + strconv.FormatUint(a.next.Add(1), 36)
	a.mu.Lock()
	a.flights[token] = f
	a.mu.Unlock()
	return token
}

func (a *ackInbox) close(token string) {
	a.mu.Lock()
	delete(a.flights, token)
	a.mu.Unlock()
}

func (a *ackInbox) dispatch(m *nats.Msg) {
	if len(m.Subject) <= len(a.prefix) {
		return
	}
	token, rest, _ := strings.Cut(m.Subject[len(a.prefix):], ".")
	a.mu.Lock()
	f := a.flights[token]
	a.mu.Unlock()
	if f != nil {
		f.answer(rest, m)
	}
}

// A pubAck is any answer of the server to something published: to a message,
// and in a fast batch also to a part of it.
type pubAck struct {
	Stream    string `json:"stream"`
	Duplicate bool   `json:"duplicate"`
	Count     uint64 `json:"count"`
	Type      string `json:"type"` // "ack", "gap", "err" within a batch
	Seq       uint64 `json:"seq"`
	Messages  int    `json:"msgs"`
	Error     *struct {
		Code        int    `json:"code"`
		ErrCode     int    `json:"err_code"`
		Description string `json:"description"`
	} `json:"error"`
}

var errorKey = []byte(`"error":`)

// failureOf reads an answer to a single message: nil for a confirmation.
func failureOf(channel string, m *nats.Msg) error {
	if noResponders(m) {
		return nats.ErrNoResponders
	}
	if !bytes.Contains(m.Data, errorKey) && bytes.HasPrefix(m.Data, []byte(`{"stream":`)) {
		return nil // the common case, without a decoder
	}
	var ack pubAck
	if err := json.Unmarshal(m.Data, &ack); err != nil {
		return fmt.Errorf("natsbus: send to %s: answer of the server cannot be read: %w", channel, err)
	}
	return ack.failure(channel)
}

func (p *pubAck) failure(channel string) error {
	if p.Error == nil {
		return nil
	}
	if p.Error.ErrCode == 10205 {
		return fmt.Errorf("natsbus: send to %s: %w: %w", channel, driver.ErrRetryable, errNoBatches)
	}
	if p.Error.ErrCode == codeStoreFailed && strings.HasPrefix(p.Error.Description, "maximum ") {
		return fmt.Errorf("natsbus: send to %s: %w: the channel is full (%s): its messages have to be handled first, or the bound of its stream raised (nats stream edit %s --max-bytes=N; the option max-bytes is for new channels)",
			channel, driver.ErrRetryable, p.Error.Description, objectName(channel))
	}
	if meaning := meaningOfCode(p.Error.ErrCode, p.Error.Code); meaning != nil {
		return fmt.Errorf("natsbus: send to %s: %w: %s (%d)", channel, meaning, p.Error.Description, p.Error.ErrCode)
	}
	return fmt.Errorf("natsbus: send to %s: refused: %s (%d)", channel, p.Error.Description, p.Error.ErrCode)
}

const codeStoreFailed = 10077 // a bound of the stream, or a write that failed

var errNoBatches = errors.New("the stream takes no fast batches")

// noResponders reports whether the server found nobody listening.
func noResponders(m *nats.Msg) bool {
	return len(m.Data) == 0 && m.Header != nil && m.Header.Get("Status") == "503"
}

// probe reports whether somebody listens to a subject: the server answers a
// message that nobody takes before it answers the ping behind it.
func (c *Conn) probe(ctx context.Context, subject string) (bool, error) {
	p := &probeFlight{}
	token := c.acks.open(p)
	defer c.acks.close(token)
	// An empty message with a header of ours: listeners know it and drop it.
	watch := c.watchDenials()
	msg := &nats.Msg{Subject: subject, Reply: c.acks.prefix + token, Header: nats.Header{probeHeader: {"1"}}}
	if err := c.nc.PublishMsg(msg); err != nil {
		return false, translate("look up channel", err)
	}
	if err := watch.of(ctx, subject); err != nil {
		return false, err
	}
	// The answer may still be on its way to the subscription's goroutine: a
	// message of our own to the same inbox comes behind it.
	done := make(chan struct{})
	after := c.acks.open(signalFlight(done))
	defer c.acks.close(after)
	if err := c.nc.Publish(c.acks.prefix+after, nil); err != nil {
		return false, translate("look up channel", err)
	}
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	select {
	case <-done:
		return !p.absent.Load(), nil
	case <-ctx.Done():
		return false, translate("look up channel", ctx.Err())
	}
}

const probeHeader = "dovetail-probe"

type probeFlight struct{ absent atomic.Bool }

func (p *probeFlight) answer(_ string, m *nats.Msg) {
	if noResponders(m) {
		p.absent.Store(true)
	}
}

type signalFlight chan struct{}

func (s signalFlight) answer(string, *nats.Msg) {
	select {
	case <-s:
	default:
		close(s)
	}
}

// A countFlight takes as many answers as it has room for.
type countFlight chan struct{}

func (c countFlight) answer(string, *nats.Msg) {
	select {
	case c <- struct{}{}:
	default:
	}
}
