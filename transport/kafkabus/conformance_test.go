package kafkabus_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/kafkabus"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestKafkabus_passes_the_conformance_suite(t *testing.T) {
	s := servers.Shared(t, servers.Kafka)
	var lifelines sync.Map // driver.Conn to its *lifeline
	foreign := plain(t, s)
	drivertest.Run(t, drivertest.Harness{
		Patience: patience, // a restart takes long on a busy machine
		Open: func(ctx context.Context) (driver.Conn, error) {
			l := &lifeline{}
			o := options(s)
			o.Client = []kgo.Opt{kgo.Dialer(l.dial)}
			c, err := kafkabus.Connect(ctx, o)
			if err != nil {
				return nil, err
			}
			lifelines.Store(c, l)
			return c, nil
		},
		Restart: s.Restart,
		Forget:  func(ctx context.Context) error { return forget(ctx, s) },
		Inject: func(ctx context.Context, channel string, headers driver.Headers, body []byte) error {
			r := &kgo.Record{Topic: channel, Value: body}
			for _, h := range headers {
				r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Name, Value: []byte(h.Value)})
			}
			return foreign.ProduceSync(ctx, r).FirstErr()
		},
		Crash: func(c driver.Conn) error {
			l, ok := lifelines.Load(c)
			if !ok {
				return errors.New("a connection that the harness did not open")
			}
			l.(*lifeline).cut()
			ended, cancel := context.WithCancel(context.Background())
			cancel()
			_ = c.Close(ended) // frees what the process would have taken with it
			return nil
		},
		Quiet: 200 * 1e6,
	})
}
