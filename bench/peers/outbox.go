package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	wm "github.com/ThreeDotsLabs/watermill"
	wmsql "github.com/ThreeDotsLabs/watermill-sql/v4/pkg/sql"
	"github.com/ThreeDotsLabs/watermill/components/forwarder"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/dovetail-go/dovetail/bench"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// outbox is Watermill's SQL publisher within the transaction, wrapped for its
// forwarder, which reads the table and publishes.
type outbox struct {
	pool    *pgxpool.Pool
	url     string
	round   string // topic of the forwarder, and in the tables' names
	subject string // that envelopes name, known with the relay
	setting setting
	schema  wmsql.DefaultPostgreSQLSchema
}

func openOutbox(ctx context.Context, url, round string, s setting) (*outbox, error) {
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.MaxConns = 20 // as the other sides
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	o := &outbox{pool: pool, url: url, round: round, subject: "bench", setting: s,
		schema: wmsql.DefaultPostgreSQLSchema{SubscribeBatchSize: s.batch}}
	_, err = pool.Exec(ctx, `CREATE TABLE `+o.counter()+` (key text PRIMARY KEY, n bigint NOT NULL)`)
	if err == nil {
		var sub *wmsql.Subscriber
		if sub, err = o.subscriber(); err == nil {
			err = errors.Join(sub.SubscribeInitialize(round), sub.Close())
		}
	}
	if err != nil {
		pool.Close()
		return nil, err
	}
	return o, nil
}

func (o *outbox) counter() string { return "counter_" + o.round }

func (o *outbox) subscriber() (*wmsql.Subscriber, error) {
	return wmsql.NewSubscriber(wmsql.BeginnerFromPgx(o.pool), wmsql.SubscriberConfig{ConsumerGroup: "bench", PollInterval: o.setting.poll,
		SchemaAdapter: o.schema, OffsetsAdapter: wmsql.DefaultPostgreSQLOffsetsAdapter{}, InitializeSchema: true}, wm.NopLogger{})
}

// publish writes messages in a transaction, for a subject.
func (o *outbox) publish(tx pgx.Tx, ms ...*message.Message) error {
	p, err := wmsql.NewPublisher(wmsql.TxFromPgx(tx), wmsql.PublisherConfig{SchemaAdapter: o.schema}, wm.NopLogger{})
	if err != nil {
		return err
	}
	return forwarder.NewPublisher(p, forwarder.PublisherConfig{ForwarderTopic: o.round}).Publish(o.subject, ms...)
}

func (o *outbox) Fill(ctx context.Context, count int, body func(int) []byte) error {
	for n := 0; n < count; {
		var ms []*message.Message
		for ; n < count && len(ms) < 1000; n++ {
			ms = append(ms, newMessage(body(n)))
		}
		if err := pgx.BeginFunc(ctx, o.pool, func(tx pgx.Tx) error { return o.publish(tx, ms...) }); err != nil {
			return err
		}
	}
	return nil
}

func (o *outbox) Write(ctx context.Context, row string, body []byte) error {
	return pgx.BeginFunc(ctx, o.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `INSERT INTO `+o.counter()+` AS c VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET n = c.n + 1`, row)
		if err != nil {
			return err
		}
		return o.publish(tx, newMessage(body))
	})
}

// A stub publishes to what costs nothing.
type stub func(context.Context, [][]byte) error

func (s stub) Publish(_ string, ms ...*message.Message) error {
	for _, m := range ms {
		if err := s(m.Context(), [][]byte{m.Payload}); err != nil {
			return err
		}
	}
	return nil
}

func (stub) Close() error { return nil }

// redirected publishes to the round's subject, which was not known to those who
// wrote.
type redirected struct {
	message.Publisher
	subject string
}

func (r redirected) Publish(_ string, ms ...*message.Message) error {
	return r.Publisher.Publish(r.subject, ms...)
}

func (o *outbox) Relay(ctx context.Context, to bench.Destination) (func() error, error) {
	var pub message.Publisher = stub(to.Publish)
	if to.URL != "" {
		p, err := natsPublisher(to.URL)
		if err != nil {
			return nil, err
		}
		pub = redirected{p, to.Subject}
	}
	sub, err := o.subscriber()
	if err != nil {
		return nil, err
	}
	f, err := forwarder.NewForwarder(sub, pub, wm.NopLogger{}, forwarder.Config{ForwarderTopic: o.round, CloseTimeout: 10 * time.Second})
	if err != nil {
		return nil, err
	}
	end, err := running(ctx, f.Run, f.Running(), f.Close)
	stop := func() error { return errors.Join(end(), sub.Close(), pub.Close()) }
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

// Enter is not measured: Watermill has nothing that notes a message in the
// handler's transaction.
func (o *outbox) Enter(context.Context, []string) error { return errors.ErrUnsupported }

func (o *outbox) Hold(ctx context.Context) (func() error, error) {
	conn, err := pgx.Connect(ctx, o.url)
	if err != nil {
		return nil, err
	}
	if _, err = conn.Exec(ctx, `BEGIN ISOLATION LEVEL REPEATABLE READ`); err == nil {
		_, err = conn.Exec(ctx, `INSERT INTO `+o.counter()+` VALUES ('held', 1)`)
	}
	end := func() error { return conn.Close(context.WithoutCancel(ctx)) }
	if err != nil {
		return nil, errors.Join(err, end())
	}
	return end, nil
}

func (o *outbox) Close(ctx context.Context) error {
	defer o.pool.Close()
	_, err := o.pool.Exec(ctx, fmt.Sprintf(`DROP TABLE %s, %s, %s`, o.counter(), o.schema.MessagesTable(o.round),
		wmsql.DefaultPostgreSQLOffsetsAdapter{}.MessagesOffsetsTable(o.round)))
	return err
}
