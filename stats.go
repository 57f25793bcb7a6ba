package dovetail

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// Stats counts what a service has done since it was made. Counts only grow, but
// for the last ones, which say how things are now; Stuck says more of them.
type Stats struct {
	Sent        int64 `json:"sent"`        // messages confirmed by the broker, those of relays of this process too, answers and dead letters left out
	Handled     int64 `json:"handled"`     // messages whose handler succeeded or refused
	Redelivered int64 `json:"redelivered"` // messages that the broker delivered again
	Retried     int64 `json:"retried"`     // attempts that failed and were tried again
	Dead        int64 `json:"dead"`        // messages kept as dead letters
	Discarded   int64 `json:"discarded"`   // messages settled unhandled, as wished
	Refused     int64 `json:"refused"`     // messages that a handler refused and nobody awaits the answer of; they are in Handled too
	Expired     int64 `json:"expired"`     // requests that came too late
	Unhandled   int64 `json:"unhandled"`   // messages of a type that this instance does not handle: kept until one does, or settled where that is another's part of a channel
	LateReplies int64 `json:"late_replies"`
	LostCallers int64 `json:"lost_callers"` // answers that could not be sent: the caller was gone, or they were over a limit
	Stalls      int64 `json:"stalls"`       // receivers opened again because they delivered nothing

	InHand int64 `json:"in_hand"` // now: messages received and not settled
	Held   int64 `json:"held"`    // now: messages that wait for another attempt, for handlers that cannot begin, or behind one that does
	Unsent int64 `json:"unsent"`  // now: answers and dead letters that the broker does not take
}

type counters struct {
	sent, handled, redelivered, retried, dead, discarded, refused, expired, unhandled, late, lost, stalls atomic.Int64
}

// Stats returns the counts.
func (s *Service) Stats() Stats {
	c := &s.counts
	st := Stats{
		Sent: c.sent.Load(), Handled: c.handled.Load(), Redelivered: c.redelivered.Load(), Retried: c.retried.Load(),
		Dead: c.dead.Load(), Discarded: c.discarded.Load(), Refused: c.refused.Load(), Expired: c.expired.Load(), Unhandled: c.unhandled.Load(),
		LateReplies: c.late.Load(), LostCallers: c.lost.Load(), Stalls: c.stalls.Load(),
	}
	if r := s.underway.Load(); r != nil {
		for _, b := range r.consumers {
			inHand, held := b.sched.gauges()
			st.InHand += int64(inHand)
			st.Held += int64(held)
			if u, ok := b.overdue.stuck(); ok {
				st.Unsent += int64(u.Count)
			}
		}
	}
	return st
}

func (c *counters) add(kind NoticeKind) {
	switch kind {
	case NoticeRetry:
		c.retried.Add(1)
	case NoticeDead:
		c.dead.Add(1)
	case NoticeDiscard:
		c.discarded.Add(1)
	case NoticeRefused:
		c.refused.Add(1)
	case NoticeExpired:
		c.expired.Add(1)
	case NoticeUnhandled:
		c.unhandled.Add(1)
	case NoticeLateReply:
		c.late.Add(1)
	case NoticeReplyFailed:
		c.lost.Add(1)
	case NoticeStall:
		c.stalls.Add(1)
	}
}

// mayWarn is true once a minute for each name.
func (s *Service) mayWarn(what string) bool {
	at := now()
	last, told := s.failing.LoadOrStore(what, at)
	return !told || at.Sub(last.(time.Time)) > time.Minute && s.failing.CompareAndSwap(what, last, at)
}

// maxTold bounds how many types are remembered as told.
const maxTold = 100

// firstTold reports whether n is the first of its kind, group and message type.
// Beyond a number of types, which a stranger can invent, none is.
func (s *Service) firstTold(n Notice) bool {
	id := [3]string{string(n.Kind), n.Group, n.Message.Type}
	if _, told := s.told.Load(id); told || s.toldTypes.Load() >= maxTold {
		return false
	}
	_, told := s.told.LoadOrStore(id, true)
	if !told {
		s.toldTypes.Add(1)
	}
	return !told
}

// log writes a notice to the log: as a warning what an operator may want to act
// on, at debug level what is routine.
func (s *Service) log(n Notice) {
	level := slog.LevelDebug
	switch n.Kind {
	case NoticeDead: // one of many is told, with how many there were
		if s.deadLog.line(s, n) {
			level = slog.LevelWarn
		}
		s.alarm(s.counts.dead.Load())
	case NoticeStall, NoticeReceive, NoticeOutage, NoticeUnordered:
		level = slog.LevelWarn
	case NoticeSettle: // a broker that goes away fails every settlement under way: one a minute is told
		what := "settle"
		if s.conn.Classify(n.Err) != driver.Retryable {
			what += " " + n.Group
		}
		if s.mayWarn(what) {
			level = slog.LevelWarn
		}
	case NoticeOutageOver:
		level = slog.LevelInfo
	case NoticeRevoke:
		if n.Err != nil {
			level = slog.LevelWarn
		}
	case NoticeNotBegun: // one message that waits while others go on
		if n.Count > 0 && s.mayWarn("waits "+n.Group) {
			level = slog.LevelWarn
		}
	case NoticeRetry: // an outage fails every message: one a minute in each group is told
		if s.mayWarn(n.Group) {
			level = slog.LevelWarn
		}
	case NoticeUnhandled: // routine on a shared channel: the first of each type in each group is told
		if s.firstTold(n) {
			level = slog.LevelWarn
		}
	case NoticeRefused: // the first of each type in each group is told
		if s.firstTold(n) {
			level = slog.LevelInfo
		}
	case NoticePositionLost, NoticeLost:
		level = slog.LevelError
	}
	if n.quiet || n.Kind == NoticeSettle && s.broker.isAway() {
		level = slog.LevelDebug
	}
	s.write(level, n)
}

// write writes a notice to the log at a level.
func (s *Service) write(level slog.Level, n Notice) {
	ctx := context.Background()
	if !s.opts.Logger.Enabled(ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 8)
	attrs = append(attrs, slog.String("service", s.name))
	for _, a := range []slog.Attr{slog.String("channel", n.Channel), slog.String("group", n.Group)} {
		if a.Value.String() != "" {
			attrs = append(attrs, a)
		}
	}
	if n.Message != nil {
		attrs = append(attrs, slog.String("type", n.Message.Type), slog.String("id", n.Message.ID))
	}
	if n.Attempt > 0 {
		attrs = append(attrs, slog.Int("attempt", n.Attempt))
	}
	if n.Count > 0 {
		attrs = append(attrs, slog.Int("count", n.Count))
	}
	if n.After > 0 {
		attrs = append(attrs, slog.Duration("after", n.After))
	}
	if n.Err != nil {
		attrs = append(attrs, slog.String("error", errText(n.Err)))
	}
	s.opts.Logger.LogAttrs(ctx, level, string(n.Kind), attrs...)
}
