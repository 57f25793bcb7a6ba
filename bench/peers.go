package bench

import (
	"context"
	"errors"
	"fmt"
)

// A Peer is another library, measured in the same rounds as both sides. Module
// bench/peers has some.
type Peer struct {
	Name string

	// Client opens a client of a broker: kind is nats, rabbitmq or kafka. nil,
	// or errors.ErrUnsupported: it has none for that.
	Client func(ctx context.Context, kind, url string) (Client, error)

	// Outbox makes the tables of a round in a database: kind is postgres or
	// sqlite. nil, or errors.ErrUnsupported: likewise.
	Outbox func(ctx context.Context, kind, url, round string) (Outbox, error)
}

// A peerSide is a peer on a target.
type peerSide struct {
	name string
	side side
}

// openPeers adds to a target what peers have for it.
func (t *target) openPeers(ctx context.Context, peers []Peer) error {
	for _, p := range peers {
		if raw, ok := t.raw.(*rawBox); ok {
			if p.Outbox != nil {
				open := func(ctx context.Context, round string) (Outbox, error) { return p.Outbox(ctx, t.kind, t.url, round) }
				t.peers = append(t.peers, peerSide{p.Name, &rawBox{open: open, nats: raw.nats, url: raw.url}})
			}
			continue
		}
		if p.Client == nil || t.url == "" {
			continue
		}
		c, err := p.Client(ctx, t.kind, t.url)
		if errors.Is(err, errors.ErrUnsupported) {
			continue
		}
		if err != nil {
			return fmt.Errorf("open %s: %w", p.Name, err)
		}
		closeTarget := t.close
		t.close = func(ctx context.Context) error { return errors.Join(c.Close(ctx), closeTarget(ctx)) }
		t.peers = append(t.peers, peerSide{p.Name, plain{c}})
	}
	return nil
}
