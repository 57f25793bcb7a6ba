package kafkabus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Conn is a connection to a Kafka cluster. It is a driver.Conn, and a
// driver.Browser, Lister, Remover and Examiner.
type Conn struct {
	opts   Options
	client *kgo.Client // sends and asks; receivers have clients of their own
	adm    *kadm.Client
	reg    registry

	born time.Time       // when it connected
	life context.Context // ends with Close
	stop context.CancelFunc
	shut atomic.Bool

	produces atomic.Bool // mayProduce has let it
	sendMu   sync.Mutex
	sends    map[*sending]struct{}
	turn     uint64         // of the last of them
	fenced   map[string]int // topics that are shut, and how many sendings hold them so

	topicMu sync.Mutex
	topics  map[string]*topic     // that were found, for Send
	checked map[kadm.TopicID]bool // those whose settings were looked at

	mu         sync.Mutex
	receivers  map[*receiver]struct{}
	followings map[string]following // broadcast groups, by groupID
}

var (
	_ driver.Conn     = (*Conn)(nil)
	_ driver.Browser  = (*Conn)(nil)
	_ driver.Lister   = (*Conn)(nil)
	_ driver.Examiner = (*Conn)(nil)
	_ driver.Remover  = (*Conn)(nil)
)

// Connect connects to the cluster that o names. It tries for Options.Timeout; a
// connection that was lost later comes back by itself, without end.
func Connect(ctx context.Context, o Options) (*Conn, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	life, stop := context.WithCancel(context.Background())
	client, err := kgo.NewClient(o.clientOptions(append(o.producerOptions(), kgo.WithContext(life))...)...)
	if err != nil {
		stop()
		return nil, fmt.Errorf("kafkabus: connect: %w", err)
	}
	c := &Conn{opts: o, client: client, life: life, stop: stop, adm: kadm.NewClient(client), sends: map[*sending]struct{}{}, fenced: map[string]int{},
		topics: map[string]*topic{}, checked: map[kadm.TopicID]bool{}, born: time.Now(), receivers: map[*receiver]struct{}{}, followings: map[string]following{}}
	c.adm.SetTimeoutMillis(int32(o.Timeout / time.Millisecond))
	c.reg.c = c
	ask, cancel := c.deadline(ctx)
	defer cancel()
	if err := client.Ping(ask); err != nil {
		stop()
		client.Close()
		return nil, translate("connect", err)
	}
	return c, nil
}

// Capabilities says what Kafka can do, whatever the server.
func (c *Conn) Capabilities() driver.Capabilities {
	return driver.Capabilities{
		Name: "kafkabus", Durable: true, Shared: true, Order: driver.OrderOwner, OrderedPipeline: true, RetryAfter: true, LateSettle: true,
		Broadcast: true, PublishRetained: true, MaxBytes: c.opts.MaxBytes,
	}
}

// Classify says what kind of error err is.
func (c *Conn) Classify(err error) driver.Kind {
	if kind := driver.Classify(err); kind != driver.Unclassified {
		return kind
	}
	if meaning := meaningOf(err); meaning != nil {
		return driver.Classify(meaning)
	}
	return driver.Unclassified
}

// As sets target, a **kgo.Client, to the client underneath, and reports whether
// it could.
func (c *Conn) As(target any) bool {
	p, ok := target.(**kgo.Client)
	if ok {
		*p = c.client
	}
	return ok
}

// Close closes the receivers, which leave their groups, and the connection. What
// is being sent fails.
func (c *Conn) Close(ctx context.Context) error {
	c.mu.Lock()
	first := c.shut.CompareAndSwap(false, true)
	open := make([]*receiver, 0, len(c.receivers))
	for r := range c.receivers {
		open = append(open, r)
	}
	c.mu.Unlock()
	errs := make([]error, len(open))
	var wg sync.WaitGroup
	for i, r := range open {
		wg.Go(func() { errs[i] = r.Close(ctx) })
	}
	wg.Wait()
	if first {
		c.stop()
		c.client.Close()
	}
	return errors.Join(errs...)
}

// ready returns an error when the connection was closed.
func (c *Conn) ready() error {
	if c.shut.Load() {
		return fmt.Errorf("kafkabus: %w", driver.ErrClosed)
	}
	return nil
}

// deadline bounds a call to the server; it ends with the connection as well.
func (c *Conn) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	stop := context.AfterFunc(c.life, cancel)
	return ctx, func() { stop(); cancel() }
}
