// Package catalog keeps the stock, counts what sells, and holds that count in a
// cache in each of its instances.
package catalog

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/examples/eshop/catalog/catalogapi"
	"github.com/dovetail-go/dovetail/examples/eshop/ordering/orderingapi"
	"github.com/dovetail-go/dovetail/examples/eshop/tables"
	"github.com/dovetail-go/dovetail/inbox"
	"github.com/dovetail-go/dovetail/outbox"
)

// Opening is how many of each thing are on its shelf in the beginning. An
// example needs no purchasing department: a shelf is set up, full, when its
// thing is first asked for.
const Opening = 2500

// schema has no unique key on the order, on purpose: a second effect of one
// message would show in the balance, instead of being swallowed here.
const schema = `
CREATE TABLE IF NOT EXISTS shelves (
	sku   TEXT PRIMARY KEY,
	units BIGINT NOT NULL CHECK (units >= 0)
);
CREATE TABLE IF NOT EXISTS moves (
	kind     TEXT NOT NULL, -- reserve, release, return; sale for the read model
	order_id TEXT NOT NULL,
	units    BIGINT NOT NULL
);
CREATE TABLE IF NOT EXISTS reserved (
	order_id TEXT NOT NULL,
	sku      TEXT NOT NULL,
	units    BIGINT NOT NULL
);
CREATE INDEX IF NOT EXISTS reserved_order ON reserved (order_id);
CREATE TABLE IF NOT EXISTS sales (
	sku     TEXT PRIMARY KEY,
	units   BIGINT NOT NULL,
	version BIGINT NOT NULL
);`

// Effects lists what the catalog has done, as (kind, subject, times, amount).
const Effects = `SELECT kind, order_id, count(*), sum(units) FROM moves GROUP BY 1, 2`

// Stock lists what is on the shelves, and Sold what the read model has, as
// (SKU, units).
const (
	Stock = `SELECT sku, units FROM shelves ORDER BY sku`
	Sold  = `SELECT sku, units FROM sales ORDER BY sku`
)

// Register has svc be the catalog, with its tables in db and its messages in
// box.
func Register(ctx context.Context, svc *dovetail.Service, db *sql.DB, box *outbox.Box[*sql.Tx]) error {
	if err := tables.Make(ctx, db, schema); err != nil {
		return fmt.Errorf("catalog: %w", err)
	}
	catalogapi.ReserveStock.Handle(svc, inbox.Answer(box, reserve))
	catalogapi.ReleaseStock.Handle(svc, inbox.Once(box, release))
	catalogapi.ReturnStock.Handle(svc, inbox.Once(box, takeBack))

	orderingapi.OrderPlaced.Subscribe(svc, inbox.Once(box, count))
	svc.Declare(catalogapi.SalesChanged)
	newCache(db).register(svc)
	return nil
}

// reserve takes goods off the shelves. If one shelf has too few, the refusal
// rolls back what was taken from the others.
func reserve(ctx context.Context, tx *sql.Tx, _ dovetail.Sender, g catalogapi.Goods) (catalogapi.Goods, error) {
	take, err := tx.PrepareContext(ctx, `UPDATE shelves SET units = units - $1 WHERE sku = $2 AND units >= $1`)
	if err != nil {
		return g, err
	}
	defer take.Close()
	note, err := tx.PrepareContext(ctx, `INSERT INTO reserved (order_id, sku, units) VALUES ($1, $2, $3)`)
	if err != nil {
		return g, err
	}
	defer note.Close()
	if err := setUp(ctx, tx, g.Items); err != nil {
		return g, err
	}
	for _, item := range g.Items {
		res, err := take.ExecContext(ctx, item.Units, item.SKU)
		if err != nil {
			return g, err
		}
		if n, err := res.RowsAffected(); err != nil {
			return g, err
		} else if n == 0 {
			return g, dovetail.Refuse(catalogapi.OutOfStock, "order %s wants %d of %s, and fewer are left", g.Order, item.Units, item.SKU)
		}
		if _, err := note.ExecContext(ctx, g.Order, item.SKU, item.Units); err != nil {
			return g, err
		}
	}
	return g, move(ctx, tx, "reserve", g)
}

// release puts back what an order had reserved.
func release(ctx context.Context, tx *sql.Tx, _ dovetail.Sender, g catalogapi.Goods) error {
	rows, err := tx.QueryContext(ctx, `DELETE FROM reserved WHERE order_id = $1 RETURNING sku, units`, g.Order)
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var item catalogapi.Item
		if err := rows.Scan(&item.SKU, &item.Units); err != nil {
			return err
		}
		g.Items = append(g.Items, item)
	}
	if err := rows.Err(); err != nil {
		return err
	}
	// In the order in which reservations lock them.
	slices.SortFunc(g.Items, func(a, b catalogapi.Item) int { return cmp.Compare(a.SKU, b.SKU) })
	return putBack(ctx, tx, "release", g)
}

// takeBack puts goods on the shelves that were bought earlier.
func takeBack(ctx context.Context, tx *sql.Tx, _ dovetail.Sender, g catalogapi.Goods) error {
	if err := setUp(ctx, tx, g.Items); err != nil {
		return err
	}
	return putBack(ctx, tx, "return", g)
}

func putBack(ctx context.Context, tx *sql.Tx, kind string, g catalogapi.Goods) error {
	for _, item := range g.Items {
		if _, err := tx.ExecContext(ctx, `UPDATE shelves SET units = units + $1 WHERE sku = $2`, item.Units, item.SKU); err != nil {
			return err
		}
	}
	return move(ctx, tx, kind, g)
}

// setUp makes the shelves that are not there yet.
func setUp(ctx context.Context, tx *sql.Tx, items []catalogapi.Item) error {
	add, err := tx.PrepareContext(ctx, `INSERT INTO shelves (sku, units) VALUES ($1, $2) ON CONFLICT DO NOTHING`)
	if err != nil {
		return err
	}
	defer add.Close()
	for _, item := range items {
		if _, err := add.ExecContext(ctx, item.SKU, Opening); err != nil {
			return err
		}
	}
	return nil
}

// move notes that goods were moved.
func move(ctx context.Context, tx *sql.Tx, kind string, g catalogapi.Goods) error {
	var units int64
	for _, item := range g.Items {
		units += item.Units
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO moves (kind, order_id, units) VALUES ($1, $2, $3)`, kind, g.Order, units)
	return err
}
