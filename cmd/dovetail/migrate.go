package main

import (
	"context"
	"fmt"
	"io"
	"net/url"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/store"
	"github.com/spf13/cobra"
)

// A place is where a store is, and what of its tables there is.
type place interface {
	fmt.Stringer // for people: without passwords

	// migrations are the steps, without regard to whether the store has seen
	// them.
	migrations(ctx context.Context) ([]store.Migration, error)
	// taken tells which steps the store has seen, and when.
	taken(ctx context.Context) (map[int]time.Time, error)
	// migrate takes those that it has not seen.
	migrate(ctx context.Context) error
}

// place finds the store that is meant.
func (a *app) place() (place, error) {
	raw, err := a.needStore()
	if err != nil {
		return nil, err
	}
	if err := checkStore(raw); err != nil {
		return nil, err
	}
	u, _ := url.Parse(raw) // checkStore has
	return storeKinds[u.Scheme].place(u)
}

// A step is a migration as it is printed.
type step struct {
	Version int        `json:"version"`
	Name    string     `json:"name"`
	Applied *time.Time `json:"applied"` // null: not yet
	SQL     string     `json:"sql,omitempty"`
}

func (a *app) migrateCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "migrate",
		Short: "Bring a store's tables up to date, or print how",
		Long: `Bring the tables of a store's outbox and inbox up to date, list the steps, or print
their SQL to be run by hand. The store is named by --store, DOVETAIL_STORE or a
context. Printing touches no store; for PostgreSQL it asks the server which schema
is the first of the search_path, unless the URL names one with schema=.`,
		Example: `  dovetail migrate list --store sqlite:catalog.db
  dovetail migrate print --store 'sqlite:catalog.db?prefix=shop_'
  dovetail migrate up --store 'postgres://shop@db/shop?schema=catalog'`,
	})
	cmd.AddCommand(
		a.migration("list", "List the steps and which of them were taken", func(ctx context.Context, p place) error {
			steps, err := stepsOf(ctx, p)
			if err != nil {
				return err
			}
			for i := range steps {
				steps[i].SQL = ""
			}
			return a.printSteps(steps)
		}),
		a.migration("print", "Print the steps' SQL, without touching the store", func(ctx context.Context, p place) error {
			steps, err := stepsOf(ctx, p)
			if err != nil {
				return err
			}
			return a.print(steps, func(w io.Writer) error {
				for _, m := range steps {
					if _, err := fmt.Fprintf(w, "-- %d: %s\n%s\n", m.Version, m.Name, strings.TrimSpace(m.SQL)); err != nil {
						return err
					}
				}
				return nil
			})
		}),
		a.migration("validate", "Fail unless every step was taken", func(ctx context.Context, p place) error {
			steps, err := stepsOf(ctx, p)
			if err != nil {
				return err
			}
			for _, m := range steps {
				if m.Applied == nil {
					return fmt.Errorf("store %s lacks version %d (%s): run dovetail migrate up", p, m.Version, m.Name)
				}
			}
			a.note("store %s is up to date", p)
			return nil
		}),
		a.migration("up", "Take the steps that the store has not seen", func(ctx context.Context, p place) error {
			if err := p.migrate(ctx); err != nil {
				return err
			}
			steps, err := stepsOf(ctx, p)
			if err != nil {
				return err
			}
			for i := range steps {
				steps[i].SQL = ""
			}
			return a.printSteps(steps)
		}),
	)
	return cmd
}

func (a *app) migration(name, what string, do func(context.Context, place) error) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: what, Args: arguments(0, 0, ""),
		Example: "  dovetail migrate " + name + " --store sqlite:catalog.db",
		RunE: func(cmd *cobra.Command, _ []string) error {
			p, err := a.place()
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
			defer cancel()
			return do(ctx, p)
		},
	}
}

func (a *app) printSteps(steps []step) error {
	return a.print(steps, func(w io.Writer) error {
		return columns(w, "VERSION\tNAME\tAPPLIED", func(row func(...any)) {
			for _, m := range steps {
				applied := "no"
				if m.Applied != nil {
					applied = m.Applied.Local().Format(time.DateTime)
				}
				row(m.Version, m.Name, applied)
			}
		})
	})
}

// stepsOf are the store's migrations, with when each was taken.
func stepsOf(ctx context.Context, p place) ([]step, error) {
	all, err := p.migrations(ctx)
	if err != nil {
		return nil, err
	}
	taken, err := p.taken(ctx)
	if err != nil {
		return nil, err
	}
	steps := make([]step, len(all))
	for i, m := range all {
		steps[i] = step{Version: m.Version, Name: m.Name, SQL: m.SQL}
		if at, ok := taken[m.Version]; ok {
			steps[i].Applied = &at
		}
	}
	return steps, nil
}
