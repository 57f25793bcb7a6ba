package natsbus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
)

// batchFlow is the distance, in messages, at which the server is asked to
// acknowledge a fast batch; it may choose a shorter one. Twice that is under
// way at most.
const batchFlow = 250

// Operations of a fast batch, in the reply subject
// <inbox>.<batch>.<flow>.<gap mode>.<sequence>.<operation>.$FI (nats-server
// 2.14, server/stream.go getFastBatch).
const (
	batchStart  = ".0.$FI"
	batchAppend = ".1.$FI"
	batchCommit = ".2.$FI"
)

// A fastBatch sends several messages to one stream as a fast batch that fails
// at a gap: the server stores a prefix of it and nothing behind, whatever is
// refused or lost, and answers for hundreds of messages at once. That is the
// order that single publishes do not have under way, at a higher rate
// (BenchmarkPublish).
type fastBatch struct {
	s     *sending
	st    *channelState
	index []int // to messages
	token string

	// In a cluster messages of a batch have no id for the server. It counts one that it
	// knows as stored, also if that was only proposed, and may yet be dropped with its
	// leader (2.15.3, processJetStreamFastBatchMsg): a batch that was sent again was
	// confirmed without a majority. A single message gets an error there (10158).
	dedupe bool

	order   []int // order[seq-1] is the index of the message that went as seq
	next    int   // of index
	refused error // why nothing more can be written

	mu      sync.Mutex
	acked   uint64 // stored up to this sequence
	flow    uint64 // distance of the server's acknowledgements
	done    bool   // the batch has ended
	counted bool   // and the server has said how much of it is stored: acked
	errSeq  uint64 // the sequence that it refused, and why
	err     error
	wake    chan struct{}
}

func newFastBatch(s *sending, g group) *fastBatch {
	return &fastBatch{s: s, st: g.st, index: g.index, dedupe: s.c.nc.ConnectedClusterName() == "", order: make([]int, 0, len(g.index)), flow: batchFlow, wake: make(chan struct{}, 1)}
}

func (b *fastBatch) start(context.Context) {
	b.token = b.s.c.acks.open(b)
	b.write()
}

func (b *fastBatch) finish(ctx context.Context) {
	defer b.s.c.acks.close(b.token)
	timer := time.NewTimer(b.s.c.opts.Timeout)
	defer timer.Stop()
	link := linkWatch{b.s.c, b.s.epoch, b.s.c.linkEvent(), b.s.began}
	why := link.ended("send to "+b.st.name, b.st.name+".")
	for why == nil && b.refused == nil {
		if b.ended() {
			break
		}
		select {
		case <-b.wake:
			timer.Reset(b.s.c.opts.Timeout)
			b.write()
		case <-ctx.Done():
			why = translate("send to "+b.st.name, ctx.Err())
		case <-link.event:
			why = link.ended("send to "+b.st.name, b.st.name+".")
		case <-timer.C:
			why = fmt.Errorf("natsbus: send to %s: %w: no answer within %v", b.st.name, driver.ErrRetryable, b.s.c.opts.Timeout)
		}
	}
	b.report(ctx, why)
}

// ended reports whether there is nothing to wait for.
func (b *fastBatch) ended() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.done || len(b.order) == 0 && b.next == len(b.index)
}

// room is how many messages may be written now.
func (b *fastBatch) room() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done {
		return 0
	}
	return max(0, int(b.acked+2*b.flow)-len(b.order))
}

// write publishes messages as far as the window allows. The last commits the
// batch; where that one is too large to be sent, a message that is not stored
// does.
func (b *fastBatch) write() {
	room := b.room()
	prefix := b.s.c.acks.prefix + b.token + "." + strconv.Itoa(batchFlow) + ".fail."
	for ; room > 0 && b.next < len(b.index) && b.refused == nil; b.next++ {
		i := b.index[b.next]
		seq := len(b.order) + 1
		operation := batchAppend
		switch {
		case b.next == len(b.index)-1:
			operation = batchCommit
		case seq == 1:
			operation = batchStart
		}
		unfit, err := b.s.publish(i, b.st, prefix+strconv.Itoa(seq)+operation, b.dedupe)
		if unfit != nil {
			b.s.fail(i, unfit, false)
			if b.next == len(b.index)-1 && len(b.order) > 0 {
				b.commitEmpty(prefix)
			}
			continue
		}
		if err != nil {
			if !notWritten(err) {
				b.order = append(b.order, i)
				b.next++
			}
			b.refused = translate("send to "+b.st.name, err)
			return
		}
		b.order = append(b.order, i)
		room--
	}
}

// commitEmpty ends the batch without a message, where the last was too large.
func (b *fastBatch) commitEmpty(prefix string) {
	const commitWithout = ".3.$FI"
	err := b.s.c.nc.PublishMsg(&nats.Msg{Subject: b.st.subjects[0], Reply: prefix + strconv.Itoa(len(b.order)+1) + commitWithout})
	if err != nil {
		b.refused = translate("send to "+b.st.name, err)
	}
}

// answer implements flight. rest is the reply subject of the message that is
// answered, after the batch.
func (b *fastBatch) answer(rest string, m *nats.Msg) {
	var ack pubAck
	var err error
	if noResponders(m) {
		err = nats.ErrNoResponders
	} else if jsonErr := json.Unmarshal(m.Data, &ack); jsonErr != nil {
		err = fmt.Errorf("natsbus: send to %s: answer of the server cannot be read: %w", b.st.name, jsonErr)
	} else {
		err = ack.failure(b.st.name)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.done {
		return
	}
	switch {
	case ack.Type == "ack":
		b.acked = max(b.acked, ack.Seq)
		b.flow = uint64(max(1, ack.Messages))
	case ack.Type == "gap":
		return // the answer that ends the batch follows
	case ack.Type == "err":
		b.errSeq, b.err = ack.Seq, err
		return // likewise
	case err != nil:
		// Refused as a message, not as part of a batch: none behind it is
		// stored, and how many before it were is not said.
		b.done, b.errSeq, b.err = true, batchSeq(rest), err
	default:
		b.done, b.acked, b.counted = true, max(b.acked, ack.Count), true
	}
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// batchSeq reads the sequence out of <flow>.<gap mode>.<sequence>.<operation>.$FI.
func batchSeq(rest string) uint64 {
	parts := strings.Split(rest, ".")
	if len(parts) < 3 {
		return 0
	}
	n, _ := strconv.ParseUint(parts[2], 10, 64)
	return n
}

// report turns what was not confirmed into failures: what the server refused
// and all behind it was not sent; without an answer that says how much was
// stored, what was written is unknown. why says why there was none.
func (b *fastBatch) report(ctx context.Context, why error) {
	b.mu.Lock()
	done, counted, acked, errSeq, err := b.done, b.counted, int(b.acked), int(b.errSeq), b.err
	b.mu.Unlock()
	if done && counted && acked == len(b.order) && b.next == len(b.index) || len(b.order) == 0 && b.next == len(b.index) {
		return
	}
	if why == nil {
		why = b.refused
	}
	switch {
	case errors.Is(err, nats.ErrNoResponders):
		err = b.s.c.unanswered(ctx, b.st)
	case errors.Is(err, errNoBatches):
		b.st.batches.Store(false) // the next Send goes message by message
	}
	switch {
	case done && err == nil:
		err = fmt.Errorf("natsbus: send to %s: %w: the server missed a message of the batch and stored nothing behind it", b.st.name, driver.ErrRetryable)
	case !done:
		err = why
	}
	behind := err
	if done && !errors.Is(err, driver.ErrNotFound) {
		behind = fmt.Errorf("natsbus: send to %s: %w: not sent, to keep the order, because an earlier message of the batch was not stored: %w", b.st.name, driver.ErrRetryable, err)
	}
	for n := acked; n < len(b.order); n++ {
		switch {
		case counted && n == acked || done && n+1 == errSeq:
			b.s.fail(b.order[n], err, false)
		case counted || done && n+1 > errSeq:
			b.s.fail(b.order[n], behind, false)
		default:
			b.s.fail(b.order[n], err, !errors.Is(err, driver.ErrDenied))
		}
	}
	for _, i := range b.index[b.next:] {
		b.s.fail(i, behind, false)
	}
}
