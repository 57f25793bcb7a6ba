package catalog

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/examples/eshop/catalog/catalogapi"
	"github.com/dovetail-go/dovetail/examples/eshop/ordering/orderingapi"
)

// count keeps the read model: how many of each thing were sold. What it changed
// is announced in the same transaction, for the caches.
func count(ctx context.Context, tx *sql.Tx, out dovetail.Sender, o orderingapi.Order) error {
	sold := make(map[string]int64, len(o.Lines))
	for _, l := range o.Lines {
		sold[l.SKU] += l.Quantity
	}
	add, err := tx.PrepareContext(ctx, `INSERT INTO sales (sku, units, version) VALUES ($1, $2, 1)
		ON CONFLICT (sku) DO UPDATE SET units = sales.units + excluded.units, version = sales.version + 1
		RETURNING units, version`)
	if err != nil {
		return err
	}
	defer add.Close()
	changed := make([]catalogapi.Sales, 0, len(sold))
	for _, sku := range slices.Sorted(maps.Keys(sold)) {
		s := catalogapi.Sales{SKU: sku}
		if err := add.QueryRowContext(ctx, sku, sold[sku]).Scan(&s.Units, &s.Version); err != nil {
			return err
		}
		changed = append(changed, s)
	}
	if _, err := tx.ExecContext(ctx, `INSERT INTO moves (kind, order_id, units) VALUES ('sale', $1, $2)`, o.ID, o.Units()); err != nil {
		return err
	}
	return catalogapi.SalesChanged.Publish(ctx, out, changed)
}

// A cache is what one instance remembers of the read model. It hears every
// change, from whichever instance made it; since changes carry versions, they
// may come twice, or late, or be in what was loaded already.
type cache struct {
	db     *sql.DB
	loaded chan struct{} // closed once the cache is complete

	mu    sync.Mutex
	sales map[string]catalogapi.Sales
}

func newCache(db *sql.DB) *cache {
	return &cache{db: db, loaded: make(chan struct{}), sales: make(map[string]catalogapi.Sales)}
}

func (c *cache) register(svc *dovetail.Service) {
	catalogapi.SalesChanged.Subscribe(svc, c.hear, dovetail.Broadcast())
	catalogapi.CacheView.Handle(svc, c.view)
	svc.Attach(c)
}

// Run loads what there is. The service calls it when changes are heard already,
// so that none falls between.
func (c *cache) Run(ctx context.Context) error {
	rows, err := c.db.QueryContext(ctx, `SELECT sku, units, version FROM sales`)
	if err != nil {
		return fmt.Errorf("catalog: load cache: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		var s catalogapi.Sales
		if err := rows.Scan(&s.SKU, &s.Units, &s.Version); err != nil {
			return fmt.Errorf("catalog: load cache: %w", err)
		}
		c.put(s)
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("catalog: load cache: %w", err)
	}
	close(c.loaded)
	<-ctx.Done()
	return nil
}

func (c *cache) hear(_ context.Context, changed []catalogapi.Sales) error {
	c.put(changed...)
	return nil
}

func (c *cache) put(changed ...catalogapi.Sales) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range changed {
		if s.Version > c.sales[s.SKU].Version {
			c.sales[s.SKU] = s
		}
	}
}

func (c *cache) view(ctx context.Context, _ catalogapi.Everything) (catalogapi.View, error) {
	select {
	case <-c.loaded:
	case <-ctx.Done():
		return catalogapi.View{}, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return ViewOf(func(yield func(string, int64) bool) {
		for _, sku := range slices.Sorted(maps.Keys(c.sales)) {
			if !yield(sku, c.sales[sku].Units) {
				return
			}
		}
	}), nil
}

// ViewOf sums up what was sold, given in the order of the SKUs.
func ViewOf(sold func(yield func(sku string, units int64) bool)) catalogapi.View {
	var v catalogapi.View
	h := sha256.New()
	for sku, units := range sold {
		v.SKUs++
		v.Units += units
		fmt.Fprintf(h, "%s=%d\n", sku, units)
	}
	v.Hash = hex.EncodeToString(h.Sum(nil)[:8])
	return v
}
