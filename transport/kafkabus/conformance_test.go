package kafkabus_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/kafkabus"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// by changes options so that every connection goes to addr, whatever the server
// advertises, and calls end soon.
func by(o *kafkabus.Options, addr string, l *lifeline) {
	l.to = addr
	o.Brokers, o.Timeout, o.Client = []string{addr}, 2*time.Second, []kgo.Opt{kgo.Dialer(l.dial)}
}

// harness is a server for the suite.
func harness(t *testing.T, s *servers.Server) drivertest.Harness {
	var lifelines sync.Map // driver.Conn to its *lifeline
	foreign := plain(t, s)
	return drivertest.Harness{
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
		URL:  s.URL() + "?session-timeout=6s&heartbeat=100ms",
		Addr: broker(s),
		Through: func(ctx context.Context, addr string) (driver.Conn, error) {
			o := options(s)
			by(&o, addr, &lifeline{})
			return kafkabus.Connect(ctx, o)
		},
		Restart: s.Restart,
		Forget:  func(ctx context.Context) error { return forget(ctx, s) },
		Inject: func(ctx context.Context, channel string, headers driver.Headers, body []byte) error {
			return inject(ctx, foreign, channel, nil, headers, body)
		},
		InjectKeyed: func(ctx context.Context, channel string, key []byte, headers driver.Headers, body []byte) error {
			return inject(ctx, foreign, channel, key, headers, body)
		},
		Trim: func(ctx context.Context, channel string) error { return trim(ctx, foreign, channel) },
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
		Quiet: 200 * time.Millisecond,
		KnownGaps: map[string]string{
			"Full": "Kafka refuses nothing for want of room: it deletes by its retention",
		},
	}
}

// inject sends a record with a client that knows nothing of Dovetail.
func inject(ctx context.Context, c *kgo.Client, channel string, key []byte, headers driver.Headers, body []byte) error {
	r := &kgo.Record{Topic: channel, Key: key, Value: body}
	for _, h := range headers {
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: h.Name, Value: []byte(h.Value)})
	}
	return c.ProduceSync(ctx, r).FirstErr()
}

// trim deletes all records of a topic.
func trim(ctx context.Context, c *kgo.Client, channel string) error {
	adm := kadm.NewClient(c)
	ends, err := adm.ListEndOffsets(ctx, channel)
	if err != nil {
		return err
	}
	resp, err := adm.DeleteRecords(ctx, ends.Offsets())
	return errors.Join(err, resp.Error())
}

func TestKafkabus_passes_the_conformance_suite(t *testing.T) {
	drivertest.Run(t, harness(t, servers.Shared(t, servers.Kafka)))
}

func TestFaults_lose_and_invert_nothing(t *testing.T) {
	drivertest.Faults(t, harness(t, servers.Shared(t, servers.Kafka)))
}
