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

// HeldStore is what it takes to look at held messages and to repair them: a
// store.DB of any kind.
type HeldStore interface {
	store.HeldQueue
	Shards() int
}

// A HeldMessage is a message that was set aside, because the broker did not take
// it while others passed, or because its row in the outbox cannot be read: then
// Err says why, and Text is what is stored of its attributes and headers.
type HeldMessage struct {
	store.Held
	Shard int
}

// A HeldFilter says which held messages are meant. Its zero value means all.
type HeldFilter struct {
	Channel string
	Key     string   // of messages
	IDs     []string // of messages
}

func (f *HeldFilter) match(h *store.Held) bool {
	m := h.Message
	return (f.Channel == "" || f.Channel == m.Channel) && (f.Key == "" || f.Key == m.Key) &&
		(len(f.IDs) == 0 || slices.Contains(f.IDs, m.ID))
}

// heldPage is how many held messages are read at once.
const heldPage = 200

// FindHeld returns at most max held messages of an outbox, 0 for all, in the
// order in which they were written, and whether there are more. It needs no
// relay and is safe beside one that runs, as all of these functions are.
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

// EditHeld replaces attributes, headers and body of a held message by m's, and
// has it tried again at once. Its id, channel and key stay: with them it keeps
// its place, and behind an inbox it takes effect once. Nobody gets the old body
// once EditHeld has returned. If the message is not held any more, because it
// was published or discarded, the error is store.ErrNotHeld; while the relay is
// trying it, EditHeld waits, ten seconds at most, and then it is store.ErrTaken.
func EditHeld(ctx context.Context, db HeldStore, h HeldMessage, m *driver.Message) error {
	err := untaken(ctx, func() error { return db.Edit(ctx, h.Shard, h.Position, m) })
	if err != nil {
		return fmt.Errorf("outbox: message %s: %w", h.Message.ID, err)
	}
	return nil
}

// DiscardHeld deletes held messages for good. What waits behind them in their
// keys is tried again at once. It returns how many it deleted: the others were
// not held any more, or err says why not. What the relay is trying it waits for,
// as EditHeld does.
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

// RetryHeld has held messages tried again at once rather than when it is their
// time, each with all that is held of its key. It returns how many keys and
// messages without a key these are: zero says that nothing of the kind is held.
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

// Held returns at most max held messages of the box's outbox, 0 for all. See
// FindHeld.
func (b *Box[Tx]) Held(ctx context.Context, f HeldFilter, max int) (found []HeldMessage, more bool, err error) {
	return FindHeld(ctx, b.db, f, max)
}

// EditHeld changes a held message. See the function of the same name.
func (b *Box[Tx]) EditHeld(ctx context.Context, h HeldMessage, m *driver.Message) error {
	return EditHeld(ctx, b.db, h, m)
}

// DiscardHeld deletes held messages. See the function of the same name.
func (b *Box[Tx]) DiscardHeld(ctx context.Context, held []HeldMessage) (n int, err error) {
	return DiscardHeld(ctx, b.db, held)
}

// RetryHeld has held messages tried again at once. See the function of the same
// name.
func (b *Box[Tx]) RetryHeld(ctx context.Context, f HeldFilter) (lanes int, err error) {
	return RetryHeld(ctx, b.db, f)
}
