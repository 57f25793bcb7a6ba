package outbox

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dovetail-go/dovetail/store"
)

// unnoted are rows that must be held and that the store does not take. They stay
// in memory, and the cursor stays before them, while everything else is
// published: a crash repeats what was published since.
type unnoted struct {
	rows  []store.Held
	retry time.Time
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
		rows := u.rows
		u.rows = nil
		if err := t.noteSingly(ctx, rows); err != nil {
			u.rows = rows
			return err
		}
	}
	step := store.Progress{To: p.to, Hold: p.hold}
	if len(u.rows) > 0 {
		step.To = store.Position{}
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
			u.retry = time.Now().Add(jitter(noteAgain))
			t.b.trouble.report(noteTrouble, fmt.Errorf("channel %s, message %s: %w", cut(h.Message.Channel), cut(h.Message.ID), err))
		}
		u.rows = append(u.rows, h)
	}
	if len(u.rows) == 0 {
		t.b.trouble.over(noteTrouble)
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
