package natsbus

import (
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	pullExpires   = 30 * time.Second // how long a request for messages waits at the server
	pullHeartbeat = 2 * time.Second  // how often the server says that it still does

	// recallExpires is how long to wait for what was asked back. The server has it
	// ready, and so the wait is over when it ends, unless less is unsettled than was
	// counted: among copies that is the rule.
	recallExpires = time.Second
)

// maxRewinds is how often after a loss of the link a gap is taken for messages
// that went to the old link; then it shows that programs receive for the group
// that know nothing of Dovetail. Gaps while the server still has the old link, or
// a receiver that has been stopped, are not counted.
const maxRewinds = 20

// A source is one consumer of the server from which a receiver pulls. Its
// fields belong to the receiver's lock.
type source struct {
	consumer  string
	index     int // among the receiver's sources
	partition int
	sub       *nats.Subscription // of its inbox
	reply     string             // the inbox
	subject   string             // where requests go
	window    int                // how many are asked for at a time
	most      int                // how many are in hand at most

	credit int      // messages asked for that have not been handed out
	bytes  int      // what those may come to, as the server counts them
	larger int      // the next message is larger than this; 0 where that is not known
	alone  bool     // that message was asked for, whatever its size
	held   receipts // handed out and not settled
	aside  asides   // handed out, and set aside
	heard  time.Time
	last   uint64 // consumer sequence of the last delivery

	kept    int  // of the backlog, are in order whatever their number
	gap     bool // something was lost on its way; resync asks it back
	rewinds int  // for gaps, since the link was lost
	foreign bool // programs that know nothing of Dovetail receive as well

	// What was asked back; see recall.
	joining bool                 // it has not all come
	want    int                  // how many it is at most, with those that were kept
	had     int                  // how many of them there were when they were asked back last; -1 where it was not answered
	upto    uint64               // sequence in the stream, of the last
	got     map[uint64]*nats.Msg // by sequence in the stream
	skip    map[uint64]bool      // not asked back
	short   bool                 // a request has ended without them: some were settled, or are yet to come

	// Of a partition that has one owner at a time; see owner.go.
	owned   bool
	won     uint64    // sequence in the stream, of the message that made us the owner
	pin     string    // by which the server knows the owner; "" if that is not us
	renewed time.Time // when the server last heard that we are still there
	leaving bool      // it is being given up, or was lost, and the core has it still
	after   time.Time // when to stand in line again
	looked  time.Time // when it was last looked for an owner
}

// A receipt is what a receiver knows of a delivery of its own.
type receipt struct {
	r          *receiver
	src        *source
	reply      string // where acknowledgements go
	seq        uint64 // in the stream
	size       int    // of the message
	until      time.Time
	done       bool // settled, or lost
	lost       bool // no longer ours, and not settled, for all that is known
	settling   bool // among those being settled
	prev, next *receipt
}

// drop takes note that the delivery is not ours any more.
func (r *receipt) drop() { r.done, r.lost = true, true }

// receipts is a list in the order of handing out; removing needs no search.
type receipts struct {
	first, last *receipt
	n           int
	bytes       int
}

func (l *receipts) add(r *receipt) {
	r.prev, r.next = l.last, nil
	if l.last != nil {
		l.last.next = r
	} else {
		l.first = r
	}
	l.last = r
	l.n++
	l.bytes += r.size
}

// remove takes r out, if it is in.
func (l *receipts) remove(r *receipt) {
	if r.prev == nil && l.first != r {
		return
	}
	if r.prev != nil {
		r.prev.next = r.next
	} else {
		l.first = r.next
	}
	if r.next != nil {
		r.next.prev = r.prev
	} else {
		l.last = r.prev
	}
	r.prev, r.next = nil, nil
	l.n--
	l.bytes -= r.size
}

// find looks for the stream sequence seq; it is for redeliveries, which are rare.
func (l *receipts) find(seq uint64) *receipt {
	for r := l.first; r != nil; r = r.next {
		if r.seq == seq {
			return r
		}
	}
	return nil
}

// A pullRequest asks a consumer for messages.
type pullRequest struct {
	Batch     int           `json:"batch"`
	MaxBytes  int64         `json:"max_bytes,omitempty"`
	Expires   time.Duration `json:"expires"`
	Heartbeat time.Duration `json:"idle_heartbeat,omitempty"`
	NoWait    bool          `json:"no_wait,omitempty"`
	Group     string        `json:"group,omitempty"`
	Pin       string        `json:"id,omitempty"`
}

var (
	errConsumerGone  = errors.New("the group's consumer is gone")
	errNotServed     = errors.New("the server has dropped a request for messages")
	errRequestFailed = errors.New("the server refused a request for messages")
	errNotOwner      = errors.New("the server has given the partition to another")
)

// status takes in a message of the server that is no delivery.
func (s *source) status(m *nats.Msg) error {
	s.heard = time.Now()
	code, what := m.Header.Get("Status"), m.Header.Get("Description")
	switch code {
	case "100":
		return nil
	case "404", "408":
		s.give(m)
		s.larger = 0
		s.short = s.joining && s.credit == 0
		return nil
	case "409":
		lower := strings.ToLower(what)
		switch {
		case strings.Contains(lower, "consumer deleted"):
			s.credit = 0
			return errConsumerGone
		case strings.Contains(lower, "server shutdown"), strings.Contains(lower, "leadership change"):
			s.credit = 0
			return errNotServed
		case strings.Contains(lower, "batch completed"):
			s.bytes = max(0, s.bytes-pendingOf(m, pendingBytes))
			return nil // all that the request asked for has come
		case strings.Contains(lower, "exceeds maxbytes"):
			s.larger = max(1, pendingOf(m, pendingBytes))
		default:
			s.had = -1 // it was refused, and says nothing of what the server has
		}
		s.give(m)
		s.short = s.joining && s.credit == 0
		return nil
	case "423":
		s.credit = 0
		return errNotOwner
	case "503":
		s.credit = 0
		return errConsumerGone
	}
	s.credit = 0
	return errors.Join(errRequestFailed, errors.New(code+" "+what))
}

// give takes back the credit of a request that ended early.
func (s *source) give(m *nats.Msg) {
	if m.Header.Get(pendingMessages) == "" {
		s.credit = 0
		return
	}
	s.credit = max(0, s.credit-pendingOf(m, pendingMessages))
	s.bytes = max(0, s.bytes-pendingOf(m, pendingBytes))
}

// What the server says of a request that has ended: what it did not bring.
const (
	pendingMessages = "Nats-Pending-Messages"
	pendingBytes    = "Nats-Pending-Bytes"
)

func pendingOf(m *nats.Msg, name string) int {
	n, _ := strconv.Atoi(m.Header.Get(name)) // 0 where the server does not say
	return n
}

// silent reports whether the server should have been heard of by now.
func (s *source) silent(now time.Time) bool {
	return s.credit > 0 && now.Sub(s.heard) > 2*pullHeartbeat+time.Second
}

// isStatus tells a message of the server from a delivery, which has a reply
// subject for its acknowledgement.
func isStatus(m *nats.Msg) bool {
	return len(m.Data) == 0 && !strings.HasPrefix(m.Reply, "$JS.ACK.") && m.Header != nil && m.Header.Get("Status") != ""
}

// place is what the subject of an acknowledgement says of a delivery.
type place struct {
	attempt  int
	stream   uint64
	consumer uint64
	pending  uint64
}

// placeOf reads $JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.
// <consumer sequence>.<time>.<pending>, or the longer form with domain and
// account in front of the stream.
func placeOf(reply string) (p place, ok bool) {
	const prefix = "$JS.ACK."
	if !strings.HasPrefix(reply, prefix) {
		return p, false
	}
	rest := reply[len(prefix):]
	skip := 2
	if strings.Count(rest, ".") >= 8 {
		skip = 4
	}
	for range skip {
		i := strings.IndexByte(rest, '.')
		if i < 0 {
			return p, false
		}
		rest = rest[i+1:]
	}
	var attempt, at uint64
	for _, v := range []*uint64{&attempt, &p.stream, &p.consumer, &at, &p.pending} {
		n, i := uint64(0), 0
		for ; i < len(rest) && rest[i] != '.'; i++ {
			if rest[i] < '0' || rest[i] > '9' {
				return p, false
			}
			n = n*10 + uint64(rest[i]-'0')
		}
		*v = n
		if i < len(rest) {
			i++
		}
		rest = rest[i:]
	}
	p.attempt = int(attempt)
	return p, p.stream > 0
}
