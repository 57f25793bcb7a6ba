package membus

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// Options of a bus. The zero value is the default.
type Options struct {
	// Messages is the most that a channel holds, delivered and unsettled ones
	// included, before Send waits; 0 for 65,536.
	Messages int

	// Bytes is the most that a channel's messages may take, by
	// driver.Message.Size, before Send waits; 0 for 64 MiB.
	Bytes int

	// MessageBytes is the largest message; 0 for 16 MiB or Bytes, whichever is
	// less.
	MessageBytes int

	// Partitions is the number of units of order of a channel that does not
	// ask for a number itself, at most 1,024; 0 for 32.
	Partitions int

	// Wait is how long Send waits for room in a channel that is full before it
	// returns an error that names the channel, which is driver.ErrRetryable; 0
	// for 5 s.
	Wait time.Duration
}

const maxPartitions = 1024

func (o Options) withDefaults() (Options, error) {
	for _, f := range []struct {
		name  string
		value int
	}{{"Messages", o.Messages}, {"Bytes", o.Bytes}, {"MessageBytes", o.MessageBytes}, {"Partitions", o.Partitions}} {
		if f.value < 0 {
			return o, fmt.Errorf("membus: Options.%s is %d: want 0 for the default, or more", f.name, f.value)
		}
	}
	if o.Messages == 0 {
		o.Messages = 65_536
	}
	if o.Bytes == 0 {
		o.Bytes = 64 << 20
	}
	if o.MessageBytes == 0 {
		o.MessageBytes = min(16<<20, o.Bytes)
	}
	if o.Partitions == 0 {
		o.Partitions = 32
	}
	if o.Wait < 0 {
		return o, fmt.Errorf("membus: Options.Wait is %v: want 0 for the default, or more", o.Wait)
	}
	if o.Wait == 0 {
		o.Wait = 5 * time.Second
	}
	if o.Partitions > maxPartitions {
		return o, fmt.Errorf("membus: Options.Partitions is %d: want at most %d", o.Partitions, maxPartitions)
	}
	if o.MessageBytes > o.Bytes {
		return o, fmt.Errorf("membus: Options.MessageBytes (%d) is over Options.Bytes (%d): a message of that size could never be sent; raise Bytes",
			o.MessageBytes, o.Bytes)
	}
	return o, nil
}

func init() { driver.Register("mem", open) }

// named are the buses that URLs name, while they have connections.
var (
	namedMu sync.Mutex
	named   = map[string]*Bus{}
)

// open is the driver.Opener of mem:.
func open(ctx context.Context, u *url.URL) (driver.Conn, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	name := u.Opaque
	if name == "" {
		name = u.Host
	}
	if u.Path != "" || u.User != nil || u.Port() != "" {
		return nil, fmt.Errorf("membus: want mem:name, or mem: for a bus of its own")
	}
	if name != "" {
		if err := driver.ValidName(name); err != nil {
			return nil, fmt.Errorf("membus: %w", err)
		}
	}
	var o Options
	p := driver.ParamsOf(u)
	p.Int("bytes", &o.Bytes, 1)
	p.Int("message-bytes", &o.MessageBytes, 1)
	p.Int("messages", &o.Messages, 1)
	p.Int("partitions", &o.Partitions, 1)
	p.Duration("wait", &o.Wait)
	if err := p.Err(); err != nil {
		return nil, fmt.Errorf("membus: %w", err)
	}
	if name == "" {
		b, err := New(o)
		if err != nil {
			return nil, err
		}
		return b.Connect(), nil
	}
	return openNamed(name, o)
}

func openNamed(name string, o Options) (driver.Conn, error) {
	full, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	namedMu.Lock()
	defer namedMu.Unlock()
	b := named[name]
	if b == nil {
		if b, err = New(o); err != nil {
			return nil, err
		}
		b.name = name
		named[name] = b
	} else if o != (Options{}) && b.opts != full {
		return nil, fmt.Errorf("membus: mem:%s is open with other parameters (messages=%d, bytes=%d, message-bytes=%d, partitions=%d, wait=%v): %w; give all its URLs the same, or only the first",
			name, b.opts.Messages, b.opts.Bytes, b.opts.MessageBytes, b.opts.Partitions, b.opts.Wait, driver.ErrConflict)
	}
	b.users++
	return b.connect(), nil
}

// release forgets a named bus with its last connection.
func (b *Bus) release() {
	if b.name == "" {
		return
	}
	namedMu.Lock()
	defer namedMu.Unlock()
	if b.users--; b.users == 0 && named[b.name] == b {
		delete(named, b.name)
	}
}
