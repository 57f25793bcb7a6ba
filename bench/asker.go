package bench

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
)

// An asker matches answers to requests.
type asker struct {
	next  atomic.Int64
	mu    sync.Mutex
	waits map[string]chan struct{}
}

// begin returns an id for a request and what is closed by its answer.
func (a *asker) begin() (id string, answered chan struct{}) {
	id, answered = strconv.FormatInt(a.next.Add(1), 36), make(chan struct{})
	a.mu.Lock()
	a.waits[id] = answered
	a.mu.Unlock()
	return id, answered
}

func (a *asker) answer(id string) {
	a.mu.Lock()
	if c := a.waits[id]; c != nil {
		close(c)
		delete(a.waits, id)
	}
	a.mu.Unlock()
}

func waitFor(ctx context.Context, c <-chan struct{}) error {
	select {
	case <-c:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("no answer: %w", ctx.Err())
	}
}
