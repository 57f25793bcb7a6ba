package rabbitbus

import (
	"fmt"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
	amqp "github.com/rabbitmq/amqp091-go"
)

// returned notes that a message went to no queue. The server says which by its
// properties alone; of those alike, the first was published first.
func (b *sending) returned(r amqp.Return) {
	for _, w := range b.sent {
		i := w.index
		if i == none || b.back[i] != nil {
			continue
		}
		m, t := b.messages[i], b.parts[i]
		if t.exchange != r.Exchange || t.key != r.RoutingKey || len(m.ID) <= maxShort && m.ID != r.MessageId {
			continue
		}
		if b.back == nil {
			b.back = map[int]error{}
		}
		b.c.forget(m.Channel)
		b.back[i] = fmt.Errorf("rabbitbus: send to %s: %w: the server has no queue for it (%s)", m.Channel, driver.ErrNotFound, r.ReplyText)
		return
	}
}

// missing fails the messages to an exchange that is gone. The server ends the
// channel at the first of them; what came before may have reached it.
func (b *sending) missing(why error) {
	for n := range b.sent {
		i := b.sent[n].index
		if i == none || b.parts[i].exchange == "" || !strings.Contains(why.Error(), "'"+b.parts[i].exchange+"'") {
			continue
		}
		m := b.messages[i]
		b.c.forget(m.Channel)
		b.sent[n].index = none
		b.fail(i, fmt.Errorf("rabbitbus: send to %s: %w: %w", m.Channel, driver.ErrNotFound, why), true)
	}
}

// oversized fails the messages that are larger than the server takes. It ends the
// channel at the first of them, and keeps none.
func (b *sending) oversized(most int) {
	for n := range b.sent {
		i := b.sent[n].index
		if i == none || len(b.messages[i].Body) <= most {
			continue
		}
		b.sent[n].index = none
		m := b.messages[i]
		b.fail(i, fmt.Errorf("rabbitbus: send to %s: %w: its body has %d bytes and the server's max_message_size is %d: set max-bytes in the URL to that", m.Channel, driver.ErrTooLarge, len(m.Body), most), false)
	}
}

// forget lets what is known of a channel be found out again.
func (c *Conn) forget(channel string) {
	c.chans.drop(channel)
	c.delays.forget()
}

// withoutKind keeps an error's text and not what it means.
type withoutKind struct{ error }
