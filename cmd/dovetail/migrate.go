package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/store"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
	"github.com/spf13/cobra"
)

func storeSchemes() []string { return slices.Sorted(maps.Keys(storeKinds)) }

// A sqliteURL is a store URL taken apart.
type sqliteURL struct{ path, prefix string }

// sqlite finds the SQLite file that is meant.
func (a *app) sqlite() (s sqliteURL, err error) {
	raw, err := a.storeURL()
	if err != nil {
		return s, err
	}
	if raw == "" {
		return s, misuse("no store is named: say --store sqlite:FILE, or name one once with dovetail context set")
	}
	if err := checkStore(raw); err != nil {
		return s, err
	}
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "sqlite" {
		return s, misuse("store %s: want sqlite:FILE here", redactURL(raw))
	}
	return parseSQLite(u)
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
context.`,
		Example: `  dovetail migrate list --store sqlite:catalog.db
  dovetail migrate print --store 'sqlite:catalog.db?prefix=shop_'
  dovetail migrate up --store sqlite:catalog.db`,
	})
	cmd.AddCommand(
		a.migration("list", "List the steps and which of them were taken", func(ctx context.Context, s sqliteURL) error {
			steps, err := s.steps(ctx)
			if err != nil {
				return err
			}
			for i := range steps {
				steps[i].SQL = ""
			}
			return a.printSteps(steps)
		}),
		a.migration("print", "Print the steps' SQL, without touching the store", func(ctx context.Context, s sqliteURL) error {
			steps, err := s.steps(ctx)
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
		a.migration("validate", "Fail unless every step was taken", func(ctx context.Context, s sqliteURL) error {
			steps, err := s.steps(ctx)
			if err != nil {
				return err
			}
			for _, m := range steps {
				if m.Applied == nil {
					return fmt.Errorf("store %s lacks version %d (%s): run dovetail migrate up", s.path, m.Version, m.Name)
				}
			}
			a.note("store %s is up to date", s.path)
			return nil
		}),
		a.migration("up", "Take the steps that the store has not seen", func(ctx context.Context, s sqliteURL) error {
			db, err := sqlitestore.Open(ctx, s.path, sqlitestore.Options{Prefix: s.prefix})
			if err != nil {
				return err
			}
			if err := db.Close(); err != nil {
				return err
			}
			steps, err := s.steps(ctx)
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

func (a *app) migration(name, what string, do func(context.Context, sqliteURL) error) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: what, Args: arguments(0, 0, ""),
		Example: "  dovetail migrate " + name + " --store sqlite:catalog.db",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := a.sqlite()
			if err != nil {
				return err
			}
			return do(cmd.Context(), s)
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

// steps are the store's migrations, with when each was taken.
func (s sqliteURL) steps(ctx context.Context) ([]step, error) {
	all, err := s.migrations(ctx)
	if err != nil {
		return nil, err
	}
	taken, err := s.taken(ctx)
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

// migrations asks a store of the same kind that is made for the purpose, so that
// the one that is meant need not exist.
func (s sqliteURL) migrations(ctx context.Context) (_ []store.Migration, err error) {
	dir, err := os.MkdirTemp("", "dovetail-migrate-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	db, err := sqlitestore.Open(ctx, filepath.Join(dir, "empty.db"), sqlitestore.Options{Prefix: s.prefix})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.Migrations(), nil
}

// taken tells which steps the store has seen, and when. A file that does not
// exist has seen none, and is not made.
func (s sqliteURL) taken(ctx context.Context) (_ map[int]time.Time, err error) {
	if _, err := os.Stat(s.path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	db, err := sqlitestore.Open(ctx, s.path, sqlitestore.Options{Prefix: s.prefix, NoMigration: true})
	if err != nil {
		if strings.Contains(err.Error(), "tables are missing") {
			return nil, nil
		}
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	prefix := s.prefix
	if prefix == "" {
		prefix = "dovetail_"
	}
	rows, err := db.DB().QueryContext(ctx, "SELECT version, at FROM "+prefix+"migration") // Open has checked the prefix
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	taken := map[int]time.Time{}
	for rows.Next() {
		var version int
		var at int64
		if err := rows.Scan(&version, &at); err != nil {
			return nil, err
		}
		taken[version] = time.UnixMicro(at).UTC()
	}
	return taken, rows.Err()
}
