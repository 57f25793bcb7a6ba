package storetest

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// service stands for a *dovetail.Service; its broker is a file.
type service struct {
	conn      driver.Conn
	sent      chan struct{}
	component dovetail.Component
}

// remark begins a line of the broker's file that names the process that writes
// what follows.
const remark = "# "

func newService(t *testing.T, dir, who string, faults faults) *service {
	f, err := os.OpenFile(filepath.Join(dir, "broker"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := fmt.Fprintln(f, remark+who); err != nil {
		t.Fatal(err)
	}
	c := &fileConn{f: f, sent: make(chan struct{}, 1), faults: faults}
	s := &service{conn: c, sent: c.sent}
	if faults.forgets {
		s.conn = forgetful{c}
	}
	return s
}

func (s *service) Name() string                    { return "catalog" }
func (s *service) Instance() string                { return "test" }
func (s *service) Provision(context.Context) error { return nil }
func (s *service) Conn() driver.Conn               { return s.conn }
func (s *service) Logger() *slog.Logger            { return slog.New(slog.DiscardHandler) }
func (s *service) Attach(c dovetail.Component)     { s.component = c }

func (s *service) Prepare(context.Context, []*driver.Message) error { return nil }

func (s *service) Relay(ctx context.Context, ms []*driver.Message) error { return s.conn.Send(ctx, ms) }

// faults are what a broker does wrong.
type faults struct {
	sick    bool // it refuses what goes to the channel "sick"
	forgets bool // it is started again all the time
}

// fileConn is a stub of a transport: it appends ids to a file, which outlives
// the process.
type fileConn struct {
	driver.Conn // nil: the relay only sends
	faults
	sent chan struct{}

	mu sync.Mutex
	f  *os.File
}

func (c *fileConn) Capabilities() driver.Capabilities { return driver.Capabilities{Name: "file"} }
func (c *fileConn) Classify(err error) driver.Kind    { return driver.Classify(err) }

func (c *fileConn) Send(_ context.Context, ms []*driver.Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var b strings.Builder
	var se driver.SendError
	for i, m := range ms {
		if c.sick && m.Channel == "sick" {
			se.Fail(i, fmt.Errorf("not today: %w", driver.ErrDenied), false)
			continue
		}
		b.WriteString(m.ID)
		b.WriteByte('\n')
	}
	select {
	case c.sent <- struct{}{}:
	default:
	}
	if _, err := c.f.WriteString(b.String()); err != nil {
		return err
	}
	return se.OrNil()
}

// forgetful is a broker that says of itself, at every look, that it was started
// again and may have forgotten what it confirmed last.
type forgetful struct{ *fileConn }

func (c forgetful) Incarnation(context.Context) (id string, window time.Duration, err error) {
	return strconv.FormatInt(time.Now().UnixNano(), 10), time.Millisecond, nil
}
