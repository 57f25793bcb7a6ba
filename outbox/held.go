package outbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/dovetail-go/dovetail/store"
)

// HeldStore is the part of a store.DB that is needed to look at held messages and to
// repair them. Every store.DB is one.
type HeldStore interface {
	store.HeldQueue
	Shards() int
}

// A HeldMessage is a message that the relay has set aside: the broker did not take
// it while it took others, or its row in the outbox cannot be read. In the second case
// Err says why, and Text is what is stored of its attributes and headers.
type HeldMessage struct {
	store.Held
	Shard int // the shard of the outbox that it is in, from 0
}

// A HeldFilter selects held messages. A message must match all fields that are set;
// the zero value selects all messages.
type HeldFilter struct {
	Channel string   // the channel's name
	Key     string   // the message's key
	IDs     []string // ids; the message has one of them
}

func (f *HeldFilter) match(h *store.Held) bool {
	m := h.Message
	return (f.Channel == "" || f.Channel == m.Channel) && (f.Key == "" || f.Key == m.Key) &&
		(len(f.IDs) == 0 || slices.Contains(f.IDs, m.ID))
}

// heldPage is how many held messages are read at once.
const heldPage = 200

// FindHeld returns at most max held messages of an outbox, or all for 0, and whether
// there are more. In each shard they come in the order in which they were written. It
// reads the database and needs no relay. Like EditHeld, DiscardHeld and RetryHeld it
// is safe while a relay runs, in this process or another.
func FindHeld(ctx context.Context, db HeldStore, f HeldFilter, max int) (found []HeldMessage, more bool, err error) {
	for shard := range db.Shards() {
		for after := (store.Position{}); ; {
			page, err := db.Browse(ctx, shard, after, heldPage)
			if err != nil {
				return nil, false, fmt.Errorf("outbox: %w", err)
			}
			if len(page) == 0 {
				break
			}
			for _, h := range page {
				after = h.Position
				if !f.match(&h) {
					continue
				}
				if max > 0 && len(found) == max {
					return found, true, nil
				}
				found = append(found, HeldMessage{h, shard})
			}
		}
	}
	return found, false, nil
}

// EditHeld replaces the attributes, headers and body of a held message by those of m,
// and has the relay send it at once. It keeps its id, channel and key, and so its
// place in the order of its key, and its identity for an inbox. m itself does not
// change. Once EditHeld has returned nil, nobody gets the old body.
//
// store.ErrNotHeld says that the message is not held any more: it was published or
// discarded. While the relay is sending the message, EditHeld waits, up to ten
// seconds; then the error is store.ErrTaken. After an error nothing is changed, unless
// the database did not answer.
func EditHeld(ctx context.Context, db HeldStore, h HeldMessage, m *driver.Message) error {
	err := untaken(ctx, func() error { return db.Edit(ctx, h.Shard, h.Position, m) })
	if err != nil {
		return fmt.Errorf("outbox: message %s: %w", h.Message.ID, err)
	}
	return nil
}

// DiscardHeld deletes held messages for ever. Messages that wait behind them in their
// keys are sent at once. It returns how many it deleted; messages that are not held any
// more are ignored. It waits for messages that the relay is sending, as EditHeld does.
// After an error n have been deleted all the same.
func DiscardHeld(ctx context.Context, db HeldStore, held []HeldMessage) (n int, err error) {
	var errs []error
	for len(held) > 0 {
		part := held[:min(len(held), heldPage)]
		for i := range part {
			if part[i].Shard != part[0].Shard {
				part = part[:i]
				break
			}
		}
		held = held[len(part):]
		k, err := discard(ctx, db, part)
		if errors.Is(err, store.ErrTaken) { // not because of all of them
			for i := range part {
				err := untaken(ctx, func() (err error) {
					k, err = discard(ctx, db, part[i:i+1])
					return err
				})
				n += k
				if err != nil {
					errs = append(errs, fmt.Errorf("outbox: message %s: %w", part[i].Message.ID, err))
				}
			}
			continue
		}
		n += k
		if err != nil {
			return n, fmt.Errorf("outbox: %w", err)
		}
	}
	return n, errors.Join(errs...)
}

func discard(ctx context.Context, db HeldStore, held []HeldMessage) (int, error) {
	ps := make([]store.Position, len(held))
	for i, h := range held {
		ps[i] = h.Position
	}
	return db.Discard(ctx, held[0].Shard, ps)
}

// RetryHeld has the relay send held messages now and not at their next time, each
// together with all that is held of its key. It does not wait for that. It returns how
// many keys, and messages without a key, these are: 0 says that nothing matches.
func RetryHeld(ctx context.Context, db HeldStore, f HeldFilter) (lanes int, err error) {
	if f.Key == "" && len(f.IDs) == 0 {
		if lanes, err = db.RetryHeld(ctx, f.Channel, ""); err != nil {
			err = fmt.Errorf("outbox: %w", err)
		}
		return lanes, err
	}
	found, _, err := FindHeld(ctx, db, f, 0)
	if err != nil {
		return 0, err
	}
	asked := map[laneKey]bool{}
	for _, h := range found {
		k := laneKey{h.Lane.Channel, h.Lane.Name}
		if asked[k] {
			continue
		}
		asked[k] = true
		n, err := db.RetryHeld(ctx, k.channel, k.name)
		if err != nil {
			return lanes, fmt.Errorf("outbox: %w", err)
		}
		lanes += n
	}
	return lanes, nil
}

// takenWait is how long people wait for the relay to be done with a message.
const takenWait = 10 * time.Second

// untaken does something again while the relay is trying the message that it is
// about.
func untaken(ctx context.Context, do func() error) error {
	until := time.Now().Add(takenWait)
	for attempt := 0; ; attempt++ {
		err := do()
		if !errors.Is(err, store.ErrTaken) || time.Now().After(until) || !backoff.Sleep(ctx, pace(attempt, 20*time.Millisecond, time.Second)) {
			return err
		}
	}
}

// Held returns at most max held messages of the box's outbox, or all for 0, and
// whether there are more. See FindHeld.
func (b *Box[Tx]) Held(ctx context.Context, f HeldFilter, max int) (found []HeldMessage, more bool, err error) {
	return FindHeld(ctx, b.db, f, max)
}

// EditHeld replaces a held message by m. See the function EditHeld.
func (b *Box[Tx]) EditHeld(ctx context.Context, h HeldMessage, m *driver.Message) error {
	return EditHeld(ctx, b.db, h, m)
}

// DiscardHeld deletes held messages. See the function DiscardHeld.
func (b *Box[Tx]) DiscardHeld(ctx context.Context, held []HeldMessage) (n int, err error) {
	return DiscardHeld(ctx, b.db, held)
}

// RetryHeld has the relay send held messages now. See the function RetryHeld.
func (b *Box[Tx]) RetryHeld(ctx context.Context, f HeldFilter) (lanes int, err error) {
	return RetryHeld(ctx, b.db, f)
}
