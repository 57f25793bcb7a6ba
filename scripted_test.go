package dovetail_test

import (
	"context"
	"sync"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
)

// scripted is a fake: a transport in memory whose sends end as the test says.
type scripted struct {
	driver.Conn
	send func(ctx context.Context, ms []*driver.Message) error // nil: as ever

	mu     sync.Mutex
	opened map[string]int // receivers, by channel
}

func (s *scripted) Send(ctx context.Context, ms []*driver.Message) error {
	if s.send != nil {
		return s.send(ctx, ms)
	}
	return s.Conn.Send(ctx, ms)
}

func (s *scripted) OpenReceiver(ctx context.Context, sub driver.Subscription) (driver.Receiver, error) {
	s.mu.Lock()
	s.opened[sub.Channel.Name]++
	s.mu.Unlock()
	return s.Conn.OpenReceiver(ctx, sub)
}

// refuse has every send fail for the messages that match.
func (s *scripted) refuse(why error, match func(*driver.Message) bool) {
	s.send = func(ctx context.Context, ms []*driver.Message) error {
		var se driver.SendError
		for i, m := range ms {
			if match(m) {
				se.Fail(i, why, false)
			} else if err := s.Conn.Send(ctx, ms[i:i+1]); err != nil {
				se.Fail(i, err, false)
			}
		}
		return se.OrNil()
	}
}

func scriptedConn(t *testing.T) *scripted {
	t.Helper()
	conn, err := driver.Open(t.Context(), "mem:")
	if err != nil {
		t.Fatal(err)
	}
	return &scripted{Conn: conn, opened: map[string]int{}}
}

// unsettled counts what waits in a transport's groups or is in hand.
func (s *scripted) unsettled(t *testing.T) (n int64) {
	t.Helper()
	all, err := s.Conn.(driver.Lister).Channels(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range all {
		for _, g := range c.Groups {
			n += g.Pending + g.Backlog
		}
	}
	return n
}

func (s *scripted) RemoveChannel(ctx context.Context, channel string) error {
	return s.Conn.(driver.Remover).RemoveChannel(ctx, channel)
}

func (s *scripted) RemoveGroup(ctx context.Context, channel, group string) error {
	return s.Conn.(driver.Remover).RemoveGroup(ctx, channel, group)
}

// openings is how often a receiver of a channel was opened.
func (s *scripted) openings(channel string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opened[channel]
}
