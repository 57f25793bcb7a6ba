package main

import (
	"context"
	"fmt"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/nats-io/nats.go"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// version says what the broker says that it is, where there is one that does.
func (d *doctor) version(ctx context.Context, conn driver.Conn) {
	as, ok := conn.(interface{ As(target any) bool })
	if !ok {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, d.a.timeout)
	defer cancel()
	var (
		nc     *nats.Conn
		link   *amqp.Connection
		client *kgo.Client
	)
	switch {
	case as.As(&nc):
		d.say("broker: version", fine, "nats-server "+nc.ConnectedServerVersion(), "")
	case as.As(&link):
		d.say("broker: version", fine, fmt.Sprintf("%v %v", link.Properties["product"], link.Properties["version"]), "")
	case as.As(&client):
		d.kafkaVersion(ctx, client)
	}
}

// brokersRemedy says what helps where a broker of a cluster does not answer. No
// rights are needed for it.
const brokersRemedy = "look whether every broker runs, and is reached from here by the address that it advertises"

// kafkaVersion goes by which requests the brokers know: they do not say what
// they are.
func (d *doctor) kafkaVersion(ctx context.Context, client *kgo.Client) {
	all, err := kadm.NewClient(client).ApiVersions(ctx)
	if err != nil {
		d.say("broker: version", warning, err.Error(), brokersRemedy)
		return
	}
	guesses := map[string]int{}
	for _, v := range all.Sorted() {
		if v.Err != nil { // and it has said nothing
			d.say("broker: version", warning, fmt.Sprintf("broker %d does not answer: %v", v.NodeID, v.Err), brokersRemedy)
			return
		}
		guesses[v.VersionGuess()]++
	}
	if len(guesses) > 1 {
		d.say("broker: version", warning, fmt.Sprintf("the brokers are not of one version: %v", guesses), "finish the upgrade")
		return
	}
	for version := range guesses {
		d.say("broker: version", fine, fmt.Sprintf("Kafka %s, brokers: %d", version, len(all)), "")
	}
}
