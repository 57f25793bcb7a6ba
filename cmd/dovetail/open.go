package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
)

// defaultBroker is where dovetail up listens.
const defaultBroker = "nats://127.0.0.1:4222"

// brokerURL is the broker that flags, environment and context name.
func (a *app) brokerURL() (string, error) {
	if a.broker != "" {
		return a.broker, nil
	}
	if u := os.Getenv("DOVETAIL_BROKER"); u != "" && a.context == "" {
		return u, nil
	}
	p, err := a.placement()
	if err != nil {
		return "", err
	}
	if p.Broker == "" {
		return defaultBroker, nil
	}
	return p.Broker, nil
}

// storeURL is the store that flags, environment and context name; "" for none.
func (a *app) storeURL() (string, error) {
	if a.store != "" {
		return a.store, nil
	}
	if u := os.Getenv("DOVETAIL_STORE"); u != "" && a.context == "" {
		return u, nil
	}
	p, err := a.placement()
	return p.Store, err
}

// connect opens the broker. What it returns ends with it.
func (a *app) connect(ctx context.Context) (conn driver.Conn, done func(), err error) {
	raw, err := a.brokerURL()
	if err != nil {
		return nil, nil, err
	}
	if err := checkBroker(raw); err != nil {
		return nil, nil, err
	}
	opening, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	conn, err = driver.Open(opening, raw)
	if err != nil {
		if raw == defaultBroker {
			return nil, nil, fmt.Errorf("%w\nstart a broker with dovetail up, or name one with --broker or dovetail context", err)
		}
		return nil, nil, err
	}
	return conn, func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.timeout)
		defer cancel()
		if err := conn.Close(closing); err != nil {
			a.note("dovetail: close the connection: %v", err)
		}
	}, nil
}

// checkBroker refuses a URL that no linked transport reads, and one whose
// messages nobody else would see.
func checkBroker(raw string) error {
	if err := checkURL(raw); err != nil {
		return err
	}
	scheme, _, _ := strings.Cut(raw, ":")
	switch {
	case scheme == "mem":
		return misuse("broker %s is memory of one process, and no other would see it: name a broker that processes share, as in file:DIR or nats://HOST:PORT", driver.Redact(raw))
	case !slices.Contains(driver.Schemes(), scheme):
		return misuse("no transport for %s: is linked in: want one of %s", scheme, strings.Join(driver.Schemes(), ":, ")+":")
	}
	return nil
}

func checkURL(raw string) error {
	if raw == "" {
		return nil
	}
	u, err := driver.ParseURL(raw)
	if err == nil {
		_, err = driver.Query(u)
	}
	if err != nil {
		return misuse("broker or store %s: %w", driver.Redact(raw), err)
	}
	return nil
}

// ability is one of driver's optional interfaces.
func ability[T any](conn driver.Conn, what string) (T, error) {
	t, ok := conn.(T)
	if !ok {
		return t, fmt.Errorf("transport %s cannot %s: %w", conn.Capabilities().Name, what, driver.ErrUnsupported)
	}
	return t, nil
}

// channelOf finds a channel by name; nil if there is none, or the transport
// cannot tell.
func channelOf(ctx context.Context, conn driver.Conn, name string) (*driver.ChannelInfo, error) {
	l, err := ability[driver.Lister](conn, "list its channels")
	if err != nil {
		return nil, nil
	}
	all, err := l.Channels(ctx)
	if errors.Is(err, driver.ErrUnsupported) {
		return nil, nil // sending says whether it is there
	}
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(c driver.ChannelInfo) bool { return c.Channel.Name == name })
	if i < 0 {
		return nil, errNoChannel
	}
	return &all[i], nil
}

var errNoChannel = errors.New("channel does not exist")
