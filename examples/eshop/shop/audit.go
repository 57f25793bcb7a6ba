package shop

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/dovetail-go/dovetail/examples/eshop/catalog"
	"github.com/dovetail-go/dovetail/examples/eshop/catalog/catalogapi"
	"github.com/dovetail-go/dovetail/examples/eshop/mail"
	"github.com/dovetail-go/dovetail/examples/eshop/money"
	"github.com/dovetail-go/dovetail/examples/eshop/ordering"
	"github.com/dovetail-go/dovetail/examples/eshop/payment"
)

// effectsOf are the queries that list what each service has done.
var effectsOf = map[string]string{
	"ordering": ordering.Effects,
	"catalog":  catalog.Effects,
	"payment":  payment.Effects,
	"mail":     mail.Effects,
}

// An auditor reads the books of the services. Nobody else looks into another's
// database; it does so because it must not take the services' word.
type auditor struct {
	dbs map[string]Store
}

func (c *Config) openAuditor(ctx context.Context) (*auditor, error) {
	a := &auditor{dbs: make(map[string]Store)}
	for _, s := range Services {
		db, err := c.OpenStore(ctx, s)
		if err != nil {
			return nil, errors.Join(err, a.close())
		}
		a.dbs[s] = db
	}
	return a, nil
}

func (a *auditor) close() error {
	var errs []error
	for _, db := range a.dbs {
		errs = append(errs, db.Close())
	}
	return errors.Join(errs...)
}

// A finding is how the books differ from what must have happened.
type finding struct {
	lost, double int64
	remarks      []string // the first few, for people
	view         catalogapi.View
	shelves      int
	stock        int64 // units on the shelves
	takings      money.Pence
}

const maxRemarks = 20

func (f *finding) remark(format string, args ...any) {
	if len(f.remarks) < maxRemarks {
		f.remarks = append(f.remarks, fmt.Sprintf(format, args...))
	}
}

// audit compares the books with what must have happened.
func (a *auditor) audit(ctx context.Context, l *expectations) (finding, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var f finding
	err := errors.Join(a.effects(ctx, l, &f), a.stock(ctx, l, &f), a.takings(ctx, l, &f))
	return f, err
}

// effects counts what is missing and what is there too often.
func (a *auditor) effects(ctx context.Context, l *expectations, f *finding) error {
	met := make(map[effect]bool, len(l.effects))
	for _, s := range Services {
		rows, err := a.dbs[s].DB().QueryContext(ctx, effectsOf[s])
		if err != nil {
			return fmt.Errorf("audit %s: %w", s, err)
		}
		err = each(rows, func() error {
			var e effect
			var got tally
			if err := rows.Scan(&e.kind, &e.subject, &got.times, &got.amount); err != nil {
				return err
			}
			want := l.effects[e]
			met[e] = true
			switch {
			case got.times > want.times:
				f.double += got.times - want.times
				f.remark("%s of %s: %d times, want %d", e.kind, e.subject, got.times, want.times)
			case got.amount != want.amount:
				f.remark("%s of %s: amounts to %d, want %d", e.kind, e.subject, got.amount, want.amount)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("audit %s: %w", s, err)
		}
	}
	for e, want := range l.effects {
		if !met[e] {
			f.lost += want.times
			f.remark("%s of %s is missing", e.kind, e.subject)
		}
	}
	return nil
}

// stock compares shelf by shelf, and the read model with what was sold.
func (a *auditor) stock(ctx context.Context, l *expectations, f *finding) error {
	shelves, err := a.units(ctx, catalog.Stock)
	if err != nil {
		return err
	}
	f.shelves = len(shelves)
	for sku, units := range shelves {
		f.stock += units
		if want := catalog.Opening + l.moved[sku]; units != want {
			f.remark("stock of %s is %d, want %d", sku, units, want)
		}
	}
	for sku := range l.moved {
		if _, ok := shelves[sku]; !ok {
			f.remark("there is no shelf of %s", sku)
		}
	}
	sold, err := a.units(ctx, catalog.Sold)
	if err != nil {
		return err
	}
	f.view = viewOf(sold)
	if !maps.Equal(sold, l.sold) {
		f.remark("the catalog has counted other sales than were made: %d units of %d things, want %d of %d",
			f.view.Units, f.view.SKUs, l.units, len(l.sold))
	}
	return nil
}

func (a *auditor) units(ctx context.Context, query string) (map[string]int64, error) {
	rows, err := a.dbs["catalog"].DB().QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("audit catalog: %w", err)
	}
	all := make(map[string]int64)
	err = each(rows, func() error {
		var sku string
		var n int64
		err := rows.Scan(&sku, &n)
		all[sku] = n
		return err
	})
	return all, err
}

func (a *auditor) takings(ctx context.Context, l *expectations, f *finding) error {
	if err := a.dbs["payment"].DB().QueryRowContext(ctx, payment.Takings).Scan(&f.takings); err != nil {
		return fmt.Errorf("audit payment: %w", err)
	}
	if f.takings != l.takings {
		f.remark("takings are %v, want %v", f.takings, l.takings)
	}
	return nil
}

// each calls f for every row and closes them.
func each(rows *sql.Rows, f func() error) error {
	defer rows.Close()
	for rows.Next() {
		if err := f(); err != nil {
			return err
		}
	}
	return rows.Err()
}

func viewOf(sold map[string]int64) catalogapi.View {
	return catalog.ViewOf(func(yield func(string, int64) bool) {
		for _, sku := range slices.Sorted(maps.Keys(sold)) {
			if !yield(sku, sold[sku]) {
				return
			}
		}
	})
}
