package natsbus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// browseBytes bounds what the server sends for one page.
const browseBytes = 8 << 20

// Browse reads a channel's stream without consuming it. A position is the
// sequence in the stream. A publish–subscribe channel holds what some group has
// not settled yet.
func (c *Conn) Browse(ctx context.Context, channel, after string, max int) ([]driver.StoredMessage, error) {
	doing := "browse channel " + channel
	st, err := c.browsable(ctx, channel)
	if err != nil || max <= 0 {
		return nil, err
	}
	seq := uint64(0)
	if after != "" {
		if seq, err = strconv.ParseUint(after, 10, 64); err != nil {
			return nil, fmt.Errorf("natsbus: %s: position %q is none of ours: use one that Browse returned, or %q", doing, after, "")
		}
	}
	// A batch of direct reads (nats-server 2.11): one request, many answers,
	// and an empty one with status 204 at the end.
	request, err := json.Marshal(map[string]any{"seq": seq + 1, "batch": max, "next_by_subj": wildcard(channel), "max_bytes": browseBytes})
	if err != nil {
		return nil, err
	}
	ctx, cancel := c.deadline(ctx)
	defer cancel()
	in := make(chan *nats.Msg, max+8)
	inbox := c.nc.NewInbox()
	sub, err := c.nc.ChanSubscribe(inbox, in)
	if err != nil {
		return nil, translate(doing, err)
	}
	defer func() { _ = sub.Unsubscribe() }()
	watch, subject := c.watchDenials(), "$JS.API.DIRECT.GET."+st.stream
	if err := c.nc.PublishRequest(subject, inbox, request); err != nil {
		return nil, translate(doing, err)
	}
	if err := watch.of(ctx, subject); err != nil {
		return nil, translate(doing, err)
	}
	var page []driver.StoredMessage
	for {
		select {
		case m := <-in:
			if noResponders(m) {
				c.chans.drop(channel, st)
				_, err := c.channel(ctx, channel)
				if err == nil {
					err = fmt.Errorf("natsbus: %s: %w: nobody serves its stream", doing, driver.ErrRetryable)
				}
				return nil, err
			}
			switch status := m.Header.Get("Status"); {
			case status == "204" || status == "404":
				return page, nil
			case status != "" && m.Header.Get(jetstream.SequenceHeader) == "":
				return nil, fmt.Errorf("natsbus: %s: the server answered %s %s", doing, status, m.Header.Get("Description"))
			}
			page = append(page, stored(channel, m))
		case <-ctx.Done():
			return nil, translate(doing, ctx.Err())
		}
	}
}

// stored reads an answer of the server's direct reads, which add headers of
// their own.
func stored(channel string, m *nats.Msg) driver.StoredMessage {
	s := driver.StoredMessage{Position: m.Header.Get(jetstream.SequenceHeader), Message: &driver.Message{}}
	for _, own := range []string{jetstream.SequenceHeader, jetstream.StreamHeader, jetstream.SubjectHeader, jetstream.TimeStampHeaer,
		"Nats-Num-Pending", "Nats-Last-Sequence", "Nats-UpTo-Sequence"} {
		m.Header.Del(own)
	}
	// What cannot be read stays among the headers; a page shows it as it is.
	_ = decode(s.Message, channel, m.Header, m.Data)
	return s
}

func (c *Conn) browsable(ctx context.Context, channel string) (*channelState, error) {
	if err := c.ready(); err != nil {
		return nil, err
	}
	st, err := c.channel(ctx, channel)
	if err == nil && st.transient {
		err = fmt.Errorf("natsbus: channel %s is transient: browsing it is %w", channel, driver.ErrUnsupported)
	}
	return st, err
}

// Remove deletes messages from a channel's stream.
func (c *Conn) Remove(ctx context.Context, channel string, positions []string) error {
	doing := "remove from channel " + channel
	st, err := c.browsable(ctx, channel)
	if err != nil {
		return err
	}
	seqs := make([]uint64, len(positions))
	for i, p := range positions {
		if seqs[i], err = strconv.ParseUint(p, 10, 64); err != nil {
			return fmt.Errorf("natsbus: %s: position %q is none of ours: use one that Browse returned", doing, p)
		}
	}
	lookup, cancel := c.deadline(ctx)
	defer cancel()
	stream, err := c.js.Stream(lookup, st.stream)
	if err != nil {
		return c.streamError(channel, err)
	}
	for _, seq := range seqs {
		one, cancel := c.deadline(ctx)
		err := stream.DeleteMsg(one, seq)
		cancel()
		if err != nil && !notThere(err) {
			return translate(doing, err)
		}
	}
	return nil
}

// notThere reports whether a message to be deleted was not there.
func notThere(err error) bool {
	api := (*jetstream.APIError)(nil)
	if errors.As(err, &api) {
		return api.ErrorCode == 10037 || api.ErrorCode == 10043 || api.ErrorCode == 10057
	}
	return errors.Is(err, jetstream.ErrMsgNotFound) || errors.Is(err, jetstream.ErrMsgDeleteUnsuccessful)
}
