package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/driver/backoff"
	"github.com/dovetail-go/dovetail/store"
)

// unnoted are rows that must be held and that the store does not take. They stay
// in memory, and the cursor stays before them, while everything else is
// published: a crash repeats what was published since. When they are too many,
// the relay reads no more until the store has taken them.
type unnoted struct {
	rows  []store.Held
	bytes int
	retry time.Time
}

const (
	// mostUnnoted is how many times Options.BatchBytes the unnoted rows may take.
	mostUnnoted = 8
	// heldRow is about what a row takes in memory beside its message's text.
	heldRow = 512
)

func (u *unnoted) add(h store.Held) {
	u.rows = append(u.rows, h)
	u.bytes += heldRow + h.Message.Size()
}

// noteAgain is how often the store is asked to take them after all.
const noteAgain = 10 * time.Second

// due says when the store is asked again, zero if there are none.
func (u *unnoted) due() time.Time {
	if len(u.rows) == 0 {
		return time.Time{}
	}
	return u.retry
}

func (u *unnoted) lanes() []laneKey {
	var all []laneKey
	for _, h := range u.rows {
		all = append(all, laneKey{h.Lane.Channel, h.Lane.Name})
	}
	return all
}

// noteTrouble is what the relay is about while the store does not take a row
// that must be held.
const noteTrouble = "set messages aside"

// note writes down how far the relay is and what is held. One row that cannot be
// written down does not keep the others from it.
func (t *term[Tx]) note(ctx context.Context, p *progress) error {
	u := &t.unnoted
	if len(u.rows) > 0 && !time.Now().Before(u.retry) {
		before := *u
		u.rows, u.bytes = nil, 0
		if err := t.noteSingly(ctx, before.rows); err != nil {
			*u = before
			return err
		}
	}
	step := store.Progress{To: p.to, Hold: p.hold}
	if len(u.rows) > 0 {
		step.To = store.Position{}
		step.Hold = t.behindUnnoted(p.hold)
		p.hold = step.Hold
	}
	err := t.db.Advance(ctx, t.Term, step)
	if err == nil || len(p.hold) == 0 || errors.Is(err, store.ErrFenced) || ctx.Err() != nil {
		return err
	}
	if perr := t.db.Advance(ctx, t.Term, store.Progress{}); perr != nil {
		return err // it is not the rows
	}
	return t.noteSingly(ctx, p.hold)
}

// behindUnnoted keeps those of rows that follow an unnoted one in its lane, which
// they must not pass, and returns the others.
func (t *term[Tx]) behindUnnoted(rows []store.Held) (others []store.Held) {
	lanes := map[laneKey]bool{}
	for _, l := range t.unnoted.lanes() {
		lanes[l] = true
	}
	for _, h := range rows {
		if lanes[laneKey{h.Lane.Channel, h.Lane.Name}] {
			t.unnoted.add(h)
		} else {
			others = append(others, h)
		}
	}
	return others
}

// noteSingly has rows held one by one, and keeps those that the store does not
// take, and what follows in their lanes.
func (t *term[Tx]) noteSingly(ctx context.Context, rows []store.Held) error {
	u := &t.unnoted
	failed := map[laneKey]bool{}
	for _, l := range u.lanes() {
		failed[l] = true
	}
	for _, h := range rows {
		l := laneKey{h.Lane.Channel, h.Lane.Name}
		if !failed[l] {
			err := t.db.Advance(ctx, t.Term, store.Progress{Hold: []store.Held{h}})
			if err == nil {
				continue
			}
			if errors.Is(err, store.ErrFenced) || ctx.Err() != nil {
				return err
			}
			failed[l] = true
			u.retry = time.Now().Add(backoff.Jitter(noteAgain))
			t.b.warnings.report(noteTrouble, fmt.Errorf("channel %s, message %s: %w", cut(h.Message.Channel), cut(h.Message.ID), err))
		}
		u.add(h)
	}
	if len(u.rows) == 0 {
		t.b.warnings.over(noteTrouble)
	}
	return nil
}

// cut is the beginning of a name, for a person.
func cut(name string) string {
	if len(name) > 100 {
		return fmt.Sprintf("%q…", name[:100])
	}
	return name
}
