package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/dovetail-go/dovetail/store"
	"github.com/spf13/cobra"
)

// outboxLine is one shard's numbers as they are printed.
type outboxLine struct {
	Shard   int        `json:"shard"`
	Backlog int64      `json:"backlog"`
	Oldest  *time.Time `json:"oldest"` // null: there is none
	Held    int64      `json:"held"`
	Later   int64      `json:"later"`
}

func (a *app) outboxCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "outbox",
		Short: "See what waits in an outbox, and repair what is held",
		Long: `See what waits in a store's outbox to be published, and which messages were set
aside because their channel or key could not be published while others could, or
because their row cannot be read. Those are looked at, edited, discarded, and tried
again at once, also while a relay runs. The store is named by --store,
DOVETAIL_STORE or a context.`,
		Example: `  dovetail outbox stats --store sqlite:catalog.db
  dovetail outbox held --store 'postgres://shop@db/shop?schema=catalog' -o json
  dovetail outbox show 01977a3e-5f0b-7c1e-9f60-5a2b8f1c3d4e --store sqlite:catalog.db
  dovetail outbox retry catalog.stock-ran-low --store sqlite:catalog.db`,
	})
	cmd.AddCommand(a.outboxStats(), a.outboxHeld(), a.outboxShow(), a.outboxEdit(), a.outboxDiscard(), a.outboxRetry())
	return cmd
}

// withStore opens the store that is meant, as it is, and closes it.
func (a *app) withStore(ctx context.Context, do func(ctx context.Context, db database) error) (err error) {
	raw, err := a.needStore()
	if err != nil {
		return err
	}
	db, err := openStore(ctx, raw, storeOptions{unchanged: true, existing: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	ctx, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	return do(ctx, db)
}

// needStore is the URL of the store that is meant.
func (a *app) needStore() (string, error) {
	raw, err := a.storeURL()
	if err == nil && raw == "" {
		err = misuse("no store is named: say --store URL, or name one once with dovetail context set")
	}
	return raw, err
}

func (a *app) outboxStats() *cobra.Command {
	return &cobra.Command{
		Use:     "stats",
		Short:   "Count what waits",
		Example: "  dovetail outbox stats --store sqlite:catalog.db",
		Args:    arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withStore(cmd.Context(), func(ctx context.Context, db database) error {
				lines := []outboxLine{}
				for shard := range db.Shards() {
					s, err := db.Stats(ctx, shard)
					if err != nil {
						return err
					}
					lines = append(lines, lineOf(shard, s))
				}
				return a.print(lines, func(w io.Writer) error {
					return columns(w, "SHARD\tBACKLOG\tOLDEST\tHELD\tLATER", func(row func(...any)) {
						for _, l := range lines {
							row(l.Shard, l.Backlog, age(l.Oldest), l.Held, l.Later)
						}
					})
				})
			})
		},
	}
}

func lineOf(shard int, s store.Stats) outboxLine {
	l := outboxLine{Shard: shard, Backlog: s.Backlog, Held: s.Held, Later: s.Later}
	if !s.Oldest.IsZero() {
		oldest := s.Oldest.UTC()
		l.Oldest = &oldest
	}
	return l
}

// age says how long ago a time is.
func age(t *time.Time) string {
	if t == nil {
		return "-"
	}
	return max(0, time.Since(*t)).Round(time.Second).String()
}
