package natsbus

import (
	"encoding/json"
	"math"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// pullBytes bounds what a request brings, whatever the window: a server
	// cuts off a client that leaves much more than this unread.
	pullBytes = 16 << 20

	// leastBytes is what a request brings at least where the window has any room.
	leastBytes = 16 << 10

	// lineBytes bounds what all requests that stand in line for partitions bring,
	// beyond the window.
	lineBytes = 1 << 20
)

// pull asks for what the window has room for. The sources share its bytes: what
// is in hand, what has come, and what was asked for counts. A message that is
// larger than what is left is asked for alone, so that it comes whatever its
// size, and the window is passed by one message at most.
func (r *receiver) pull(now time.Time) error {
	if r.quitting || r.resting {
		return nil
	}
	quiet := len(r.in) == 0 && len(r.backlog) == 0
	left, asking, alone := r.budget(), 0, false
	limit := left
	if len(r.sources) > 1 {
		limit /= 2 * len(r.sources) // what waits for messages of one leaves room for those of others
	}
	least := min(leastBytes, lineBytes/(2*len(r.sources)))
	limit = max(limit, least)
	for _, src := range r.sources {
		if src.credit == 0 {
			src.alone = false
			if quiet {
				src.bytes = 0 // all that the server said of earlier requests was heard
			}
		}
		left -= src.held.bytes + src.bytes
		alone = alone || src.alone
		if src.asks() > 0 {
			asking++
		}
	}
	for _, src := range r.sources {
		n := src.asks()
		share := left
		if n > 0 {
			share = min(left/asking, limit-src.bytes)
			asking--
			if left > 0 && src.credit == 0 {
				share = max(share, least)
			}
		}
		request := pullRequest{Batch: n, MaxBytes: r.most(), Expires: pullExpires, Heartbeat: pullHeartbeat}
		bytes := 0
		switch {
		case src.leaving || src.gap || src.short:
			continue
		case src.joining && src.credit > 0:
			continue
		case src.joining:
			request.Batch = min(src.want-len(src.got), src.window)
			request.Expires, request.Heartbeat = recallExpires, 0
		case n == 0 && src.standsInLine(now) && src.larger == 0:
			request.Batch, request.MaxBytes = 1, min(r.most(), int64(lineBytes/len(r.sources)))
		case n == 0 && src.standsInLine(now), n > 0 && src.larger > 0 && share <= src.larger:
			if alone || left <= 0 || src.credit > 0 {
				continue
			}
			request.Batch, request.Expires, request.Heartbeat = 1, recallExpires, 0
			bytes, src.alone, alone = left, true, true
		case n > 0 && share > 0 && (src.credit == 0 || share >= limit/8):
			bytes = min(share, int(r.most()))
			request.MaxBytes = int64(bytes)
		default:
			continue
		}
		if err := src.request(r.c.nc, request, now); err != nil {
			return err
		}
		src.bytes += bytes
		left -= bytes
	}
	return nil
}

// budget is how many bytes the window has room for.
func (r *receiver) budget() int {
	if r.s.WindowBytes <= 0 {
		return math.MaxInt / 2
	}
	return r.s.WindowBytes
}

// most is how much one request brings at most; every message fits it.
func (r *receiver) most() int64 { return max(pullBytes, 2*r.c.nc.MaxPayload()) }

// asks is how many messages to ask for now: none while less than an eighth of the
// window is free, so that requests are few.
func (s *source) asks() int {
	if s.owned && s.pin == "" || s.leaving || s.gap || s.short || s.joining {
		return 0
	}
	n := min(s.window, s.most-s.held.n) - s.credit
	if n <= 0 || s.credit > 0 && n < (s.window+7)/8 {
		return 0
	}
	return n
}

// standsInLine reports whether to ask for the first message of a partition that
// another owns.
func (s *source) standsInLine(now time.Time) bool {
	return s.owned && s.pin == "" && s.credit == 0 && now.After(s.after)
}

// request asks for messages.
func (s *source) request(nc *nats.Conn, request pullRequest, now time.Time) error {
	if s.owned {
		request.Group, request.Pin = ownerGroup, s.pin
	}
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	if err := nc.PublishRequest(s.subject, s.reply, body); err != nil {
		return err
	}
	if s.credit == 0 {
		s.heard = now
	}
	s.credit += request.Batch
	s.renewed = now
	return nil
}

// took takes note that a message has come to be handed out, or to be dropped.
func (s *source) took(m *nats.Msg) {
	s.credit = max(0, s.credit-1)
	s.bytes = max(0, s.bytes-sizeOf(m))
	s.larger, s.alone = 0, false
}

// sizeOf is what the server counts of a message against the bytes of a request,
// which is before it adds its pin.
func sizeOf(m *nats.Msg) int {
	n := m.Size()
	if pin := m.Header.Get(pinHeader); pin != "" {
		n -= len(pinHeader) + len(": \r\n") + len(pin)
	}
	return n
}
