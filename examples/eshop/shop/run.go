package shop

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/examples/eshop/catalog/catalogapi"
	"github.com/dovetail-go/dovetail/examples/eshop/invoice"
	"github.com/dovetail-go/dovetail/examples/eshop/ordering/orderingapi"
)

// Run starts the services, replays the invoices, and returns the balance. An
// error says that it could not be drawn up; that it does not hold, the balance
// says itself. When ctx ends, everything is ended in order.
func Run(ctx context.Context, cfg Config) (_ *Balance, err error) {
	cfg, err = cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	r := &replay{cfg: &cfg, started: time.Now(), want: newExpectations()}
	r.size = &counter{r: cfg.Orders.Data}
	if r.in, err = invoice.NewReader(r.size, invoice.Options{Dates: cfg.Dates, Unusable: r.unusable}); err != nil {
		return nil, fmt.Errorf("read %s: %w", cfg.Orders.Name, err)
	}
	svc, err := cfg.Connect(ctx, "storefront", dovetail.Options{Logger: cfg.Logger})
	if err != nil {
		return nil, err
	}
	svc.Declare(orderingapi.PlaceOrder, orderingapi.CancelOrder, catalogapi.CacheView)
	r.front = &storefront{svc: svc, cfg: &cfg, want: r.want}
	if r.fleet, err = cfg.launch(ctx); err != nil {
		return nil, errors.Join(err, svc.Close(ctx))
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	served := make(chan error, 1)
	go func() { served <- svc.Run(serving) }()
	defer func() { // services first: what they have in hand may yet be answered
		err = errors.Join(err, r.fleet.stop())
		stop()
		err = errors.Join(err, <-served)
	}()
	return r.run(ctx)
}

// A replay is one Run.
type replay struct {
	cfg     *Config
	started time.Time
	size    *counter
	in      *invoice.Reader
	front   *storefront
	fleet   fleet
	want    *expectations

	mu       sync.Mutex
	lines    LineCounts // read so far
	settling bool
}

func (r *replay) unusable(p invoice.Problem) {
	if r.cfg.Unusable != nil {
		r.cfg.Unusable(p)
	}
}

func (r *replay) run(ctx context.Context) (*Balance, error) {
	var watching sync.WaitGroup
	defer watching.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watching.Go(func() { // a service that fails ends all; why, its end will tell
		select {
		case <-r.fleet.failed():
			cancel()
		case <-ctx.Done():
		}
	})
	b, err := r.work(ctx)
	if err != nil {
		return b, err
	}
	if r.cfg.Balance != nil {
		r.cfg.Balance(b)
	}
	if r.cfg.Stay {
		<-ctx.Done()
	}
	return b, nil
}

// work replays the invoices and draws up the balance, and tells the progress
// meanwhile.
func (r *replay) work(ctx context.Context) (b *Balance, err error) {
	var telling sync.WaitGroup
	defer telling.Wait()
	tell, done := context.WithCancel(ctx)
	defer done()
	telling.Go(func() { r.tell(tell) })

	if err := r.fleet.ready(ctx); err != nil {
		return nil, err
	}
	books, err := r.cfg.openAuditor(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, books.close()) }()
	err = r.front.replay(ctx, r.in, r.read)
	r.fleet.calm()
	if err != nil {
		return nil, err
	}
	return r.balance(ctx, books)
}

// balance waits for the services to finish what follows from the orders, and
// draws up the balance.
func (r *replay) balance(ctx context.Context, books *auditor) (*Balance, error) {
	r.mu.Lock()
	r.settling = true
	r.mu.Unlock()
	found, err := r.settle(ctx, books)
	if err != nil {
		return nil, err
	}
	caches, err := r.compareCaches(ctx, found.view)
	if err != nil {
		return nil, err
	}
	return r.draw(ctx, found, caches), nil
}

// settle audits until nothing is missing, or until nothing has come for as long
// as the shop is patient.
func (r *replay) settle(ctx context.Context, books *auditor) (finding, error) {
	best, moved := int64(-1), time.Now()
	for {
		began := time.Now()
		found, err := books.audit(ctx, r.want)
		if err != nil {
			return found, err
		}
		open := found.lost
		if len(found.remarks) == 0 || open > 0 && time.Since(moved) > r.cfg.Patience {
			return found, nil
		}
		if open == 0 && time.Since(moved) > time.Second { // there it is, but wrong
			return found, nil
		}
		if best < 0 || open < best {
			best, moved = open, time.Now()
		}
		if err := pause(ctx, max(50*time.Millisecond, 2*time.Since(began))); err != nil {
			return found, err
		}
	}
}

// compareCaches asks every instance of the catalog what its cache has. Caches
// follow the database a little later, so they are asked again for a while.
func (r *replay) compareCaches(ctx context.Context, want catalogapi.View) (c Caches, err error) {
	for until := time.Now().Add(r.cfg.Patience); ; {
		good := 0
		c = Caches{}
		for a, err := range catalogapi.CacheView.Gather(ctx, r.front.svc, catalogapi.Everything{},
			dovetail.Within(time.Second), dovetail.Expect(r.cfg.Catalogs)) {
			if ctx.Err() != nil {
				return c, ctx.Err()
			}
			c.Instances++
			if err == nil && a.Value == want {
				good++
			}
		}
		c.Agree = good == r.cfg.Catalogs && c.Instances == good
		if c.Agree || time.Now().After(until) {
			return c, nil
		}
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return c, err
		}
	}
}

// pause waits for d, or for the end of ctx.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
