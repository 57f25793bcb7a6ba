package sdkgo

import (
	"context"
	"maps"
	"net/url"
	"strings"
	"testing"
	"time"

	amqp1 "github.com/Azure/go-amqp"
	ceamqp "github.com/cloudevents/sdk-go/protocol/amqp/v2"
	"github.com/cloudevents/sdk-go/v2/binding"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/servers"
	"github.com/dovetail-go/dovetail/transport/rabbitbus"
	amqp "github.com/rabbitmq/amqp091-go"
)

// sdk-go speaks AMQP 1.0 and we 0-9-1. Between both RabbitMQ makes headers of
// application properties, and of the content type the property: so does this
// test.
func TestRabbitMQ_we_read_sdkgo(t *testing.T) {
	srv := servers.Shared(t, servers.RabbitMQ)
	u, err := url.Parse(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	o, err := rabbitbus.ParseURL(u)
	if err != nil {
		t.Fatal(err)
	}
	o.Logger = quiet
	c, err := rabbitbus.Connect(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	conn, err := amqp.Dial(srv.URL())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	plain, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	t.Run("we read sdk-go", func(t *testing.T) {
		r := receiver(t, c, "sdkgo-sends")
		for mode, with := range map[string]func(context.Context) context.Context{"binary": binding.WithForceBinary, "structured": binding.WithForceStructured} {
			for _, id := range ids {
				e := theirs(id)
				e.SetTime(at.Truncate(time.Second)) // it sends a timestamp, which has seconds in 0-9-1
				var out amqp1.Message
				if err := ceamqp.WriteMessage(with(t.Context()), binding.ToMessage(&e), &out); err != nil {
					t.Fatal(err)
				}
				p := amqp.Publishing{Headers: amqp.Table{}, Body: out.GetData()}
				if out.Properties != nil && out.Properties.ContentType != nil {
					p.ContentType = *out.Properties.ContentType
				}
				maps.Copy(p.Headers, out.ApplicationProperties)
				if err := plain.PublishWithContext(t.Context(), "", "sdkgo-sends", true, false, p); err != nil {
					t.Fatal(err)
				}
				m := one(t, r)
				if mode == "structured" {
					m = unfolded(t, m)
				}
				same(t, &e, m)
			}
		}
	})
	t.Run("it does not read us", func(t *testing.T) {
		// The binding has two prefixes, "cloudEvents_" and "cloudEvents:", and has
		// receivers take both. sdk-go takes the second alone.
		provision(t, c, "sdkgo-reads")
		m := ours("sdkgo-reads", "1")
		if err := c.Send(t.Context(), []*driver.Message{m}); err != nil {
			t.Fatal(err)
		}
		d, ok, err := plain.Get("sdkgo-reads", true)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		read := amqp1.NewMessage(d.Body)
		read.Properties = &amqp1.MessageProperties{ContentType: &d.ContentType}
		read.ApplicationProperties = map[string]any{}
		maps.Copy(read.ApplicationProperties, d.Headers)
		if got := ceamqp.NewMessage(read, nil).ReadEncoding(); got != binding.EncodingUnknown {
			t.Errorf("sdk-go takes our message for %v: say on the page of RabbitMQ that it reads us", got)
		}
		for name, value := range d.Headers {
			if rest, is := strings.CutPrefix(name, "cloudEvents_"); is {
				read.ApplicationProperties["cloudEvents:"+rest] = value
			}
		}
		e, err := binding.ToEvent(t.Context(), ceamqp.NewMessage(read, nil))
		if err != nil {
			t.Fatal(err)
		}
		same(t, e, m)
	})
}
