package dovetail

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail/internal/crash"
)

// Bounds of noting a dead letter: of one attempt, of all of them, and of how
// many are noted at once.
const (
	noteTimeout = 10 * time.Second
	noteFor     = 2 * time.Minute
	notesAtOnce = 8
)

// toNote reports whether somebody asked to hear of t's dead letter. A crash
// before that has the message handled once more, and its dead letter made again
// under the same id; noting first could lose it.
func (f *completer) toNote(t *item) bool {
	if t.result != resultDeadLetter {
		return false
	}
	t.in.mu.Lock()
	defer t.in.mu.Unlock()
	return len(t.in.onDead) > 0
}

// note notes dead letters. A note that fails for long is given up: the dead
// letter is kept, and its message is settled. So is one that fails when the
// service ends.
func (f *completer) note(ctx context.Context, items []*item) (p progress) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	slots := make(chan struct{}, notesAtOnce)
	for _, t := range items {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			done := f.noteOne(ctx, t)
			mu.Lock()
			defer mu.Unlock()
			if done {
				p.over = append(p.over, t)
			} else {
				p.later = append(p.later, t)
			}
		})
	}
	wg.Wait()
	return p
}

// noteOne reports whether nothing is left to note of t.
func (f *completer) noteOne(ctx context.Context, t *item) bool {
	t.in.mu.Lock()
	todo := t.in.onDead
	t.in.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, noteTimeout)
	defer cancel()
	var err error
	for _, told := range todo {
		if err = apart(func() error { return told(ctx) }); err != nil {
			break
		}
	}
	crash.ConsumerDeadLetterNoted.Pass()
	if err == nil {
		return true
	}
	if t.rare == nil {
		t.rare = &rare{}
	}
	if t.rare.noteSince.IsZero() {
		t.rare.noteSince = time.Now()
	}
	over := time.Since(t.rare.noteSince) >= noteFor || f.b.sched.isDraining()
	n := Notice{Kind: NoticeSettle, Channel: f.b.channel.Name, Group: f.b.group, Message: t.in.Message, Err: fmt.Errorf("note the dead letter: %w", err)}
	if over {
		n.Err = fmt.Errorf("note the dead letter: given up, the letter is kept: %w", err)
	}
	f.b.s.notice(n)
	return over
}
