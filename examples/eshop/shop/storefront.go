package shop

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/examples/eshop/invoice"
	"github.com/dovetail-go/dovetail/examples/eshop/ordering/orderingapi"
)

// A storefront replays invoices: it places orders and cancels them.
type storefront struct {
	svc   *dovetail.Service
	cfg   *Config
	want  *expectations
	again atomic.Int64 // requests that were asked again

	mu       sync.Mutex
	inFlight int
	problems []error // of invoices that got no answer
}

// replay sends the invoices, so many at once, and returns once each has its
// answer. The first error that is not an invoice's own ends it.
func (s *storefront) replay(ctx context.Context, in *invoice.Reader, read func()) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	slots := make(chan struct{}, s.cfg.InFlight)
	for {
		inv, err := in.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s: %w", s.cfg.Orders.Name, err)
		}
		read()
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		wg.Go(func() {
			defer func() { <-slots }()
			s.send(ctx, inv)
		})
	}
}

// send has one invoice carried out and writes down what became of it.
func (s *storefront) send(ctx context.Context, inv invoice.Invoice) {
	s.mu.Lock()
	s.inFlight++
	s.mu.Unlock()
	receipt, err := s.ask(ctx, inv)
	s.mu.Lock()
	s.inFlight--
	if err != nil {
		s.problems = append(s.problems, err)
	}
	s.mu.Unlock()
	if err != nil {
		s.want.giveUp(inv)
		return
	}
	s.want.settle(inv, receipt)
}

// ask asks until there is an answer, always under the same id: whatever became
// of the earlier requests, the order is carried out once.
func (s *storefront) ask(ctx context.Context, inv invoice.Invoice) (orderingapi.Receipt, error) {
	call := orderingapi.PlaceOrder
	if inv.Cancels() {
		call = orderingapi.CancelOrder
	}
	for {
		receipt, err := call.Request(ctx, s.svc, order(inv), dovetail.ID(inv.Number), dovetail.Within(s.cfg.Patience))
		var unsent *dovetail.SendError
		switch {
		case err == nil:
			return receipt, nil
		case ctx.Err() != nil:
			return receipt, ctx.Err()
		case errors.Is(err, dovetail.ErrNoReply), errors.Is(err, dovetail.ErrExpired), errors.As(err, &unsent):
			s.again.Add(1)
		default: // a failure after the last attempt
			return receipt, err
		}
	}
}
