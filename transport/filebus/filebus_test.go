package filebus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
)

// crash ends a connection as the kernel ends a process: files are closed, which
// gives back the locks, and nothing is written.
func (c *Conn) crash() error { return c.shut(context.Background(), true) }

func harness(t testing.TB, opts Options) drivertest.Harness {
	opts.Dir = filepath.Join(t.TempDir(), "bus")
	e := &engine{opts: opts}
	return drivertest.Harness{
		Open: e.Open,
		Trim: e.Trim,
		Inject: func(ctx context.Context, channel string, headers driver.Headers, body []byte) error {
			return e.inject(ctx, &driver.Message{Channel: channel, Headers: headers, Body: body})
		},
		InjectKeyed: func(ctx context.Context, channel string, key []byte, headers driver.Headers, body []byte) error {
			return e.inject(ctx, &driver.Message{Channel: channel, Key: string(key), Headers: headers, Body: body})
		},
		KnownGaps: map[string]string{
			"Through": "there is no link: processes share files",
			"Full":    "nothing is refused as long as the disk has room; what happens on a full one, full_test.go tries",
		},
		URL:     "file:" + opts.Dir,
		Restart: e.Restart,
		Crash:   func(c driver.Conn) error { return c.(*mortal).crash() },
		Forget: func(ctx context.Context) error {
			dirs, err := filepath.Glob(filepath.Join(opts.Dir, "channels", "*"))
			for _, d := range dirs {
				err = errors.Join(err, os.RemoveAll(d))
			}
			return err
		},
	}
}

func TestConformance(t *testing.T) {
	drivertest.Run(t, harness(t, Options{}))
}

func TestConformance_with_small_segments_left_to_the_system(t *testing.T) {
	h := harness(t, Options{Sync: SyncOS, SegmentBytes: 64 << 10, Partitions: 3})
	h.Many, h.Quiet = 2000, 60*time.Millisecond
	drivertest.Run(t, h)
}

func BenchmarkConformance(b *testing.B) { drivertest.Bench(b, harness(b, Options{})) }

// A bench is a directory with one channel and what tests do with it.
type bench struct {
	testing.TB
	opts Options
	ch   driver.Channel
	sub  driver.Subscription
}

func newBench(t testing.TB, opts Options) *bench {
	if opts.Dir == "" {
		opts.Dir = filepath.Join(t.TempDir(), "bus")
	}
	b := &bench{TB: t, opts: opts, ch: driver.Channel{Name: "orders"}}
	b.sub = driver.Subscription{Channel: b.ch, Group: "worker", Instance: "one", Window: 1000}
	return b
}

func (b *bench) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	b.Cleanup(cancel)
	return ctx
}

// open opens a connection that knows the channel and its group.
func (b *bench) open() *Conn {
	b.Helper()
	c, err := Open(b.ctx(), b.opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { b.close(c) })
	if err := c.Provision(b.ctx(), []driver.Channel{b.ch}, []driver.Subscription{b.sub}); err != nil {
		b.Fatal(err)
	}
	return c
}

func (b *bench) close(c *Conn) {
	b.Helper()
	if err := c.Close(context.Background()); err != nil {
		b.Errorf("close: %v", err)
	}
}

func (b *bench) receiver(c *Conn) *receiver {
	b.Helper()
	r, err := c.OpenReceiver(b.ctx(), b.sub)
	if err != nil {
		b.Fatal(err)
	}
	return r.(*receiver)
}

func (b *bench) message(n int) *driver.Message {
	return &driver.Message{Channel: b.ch.Name, ID: strconv.Itoa(n), Key: "k" + strconv.Itoa(n%7), Body: fmt.Appendf(nil, "body of %d", n)}
}

// send sends messages numbered from, from+1…
func (b *bench) send(c *Conn, from, n int) {
	b.Helper()
	ms := make([]*driver.Message, n)
	for i := range ms {
		ms[i] = b.message(from + i)
	}
	if err := c.Send(b.ctx(), ms); err != nil {
		b.Fatalf("send: %v", err)
	}
}

// take receives n messages and acknowledges them where ack is set.
func (b *bench) take(r driver.Receiver, n int, ack bool) []*driver.Delivery {
	b.Helper()
	var got []*driver.Delivery
	ctx := b.ctx()
	for len(got) < n {
		ds, err := r.Receive(ctx, n-len(got))
		if err != nil {
			b.Fatalf("receive: %v; had %d of %d", err, len(got), n)
		}
		got = append(got, ds...)
	}
	if ack {
		b.settle(r, driver.Ack, got...)
	}
	return got
}

func (b *bench) settle(r driver.Receiver, o driver.Outcome, ds ...*driver.Delivery) {
	b.Helper()
	ss := make([]driver.Settlement, len(ds))
	for i, d := range ds {
		ss[i] = driver.Settlement{Delivery: d, Outcome: o}
	}
	if err := r.Settle(b.ctx(), ss); err != nil {
		b.Fatalf("settle: %v", err)
	}
}

// nothing checks that there is nothing to receive.
func (b *bench) nothing(r driver.Receiver) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if ds, err := r.Receive(ctx, 10); !errors.Is(err, context.DeadlineExceeded) {
		b.Fatalf("received %v, %v; want nothing", ids(ds), err)
	}
}

func ids(ds []*driver.Delivery) []string {
	var s []string
	for _, d := range ds {
		s = append(s, d.Message.ID)
	}
	return s
}

// lastSegment returns the path of the segment that is appended to.
func (b *bench) lastSegment() string {
	b.Helper()
	paths, err := filepath.Glob(filepath.Join(b.opts.Dir, "channels", b.ch.Name, "log", "*.seg"))
	if err != nil || len(paths) == 0 {
		b.Fatalf("no segment: %v", err)
	}
	return paths[len(paths)-1]
}
