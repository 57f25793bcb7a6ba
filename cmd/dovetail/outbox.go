package main

import (
	"context"
	"errors"
	"fmt"
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

// heldLine is a held message as it is printed.
type heldLine struct {
	Shard    int       `json:"shard"`
	ID       string    `json:"id"`
	Source   string    `json:"source"`
	Type     string    `json:"type"`
	Channel  string    `json:"channel"`
	Key      string    `json:"key,omitempty"`
	Since    time.Time `json:"since"`
	Attempts int       `json:"attempts"`
	Retry    time.Time `json:"retry"`
	Error    string    `json:"error"`
	Bytes    int       `json:"bytes"`
}

func (a *app) outboxCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "outbox",
		Short: "See what waits in an outbox, and have it tried again",
		Long: `See what waits in a store's outbox to be published, which messages were set aside
because their channel or key could not be published while others could, and have
those tried again at once. The store is named by --store, DOVETAIL_STORE or a
context.`,
		Example: `  dovetail outbox stats --store sqlite:catalog.db
  dovetail outbox held --store 'postgres://shop@db/shop?schema=catalog' -o json
  dovetail outbox retry catalog.stock-ran-low --store sqlite:catalog.db`,
	})
	cmd.AddCommand(a.outboxStats(), a.outboxHeld(), a.outboxRetry())
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

func (a *app) outboxHeld() *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:     "held",
		Short:   "List messages that were set aside",
		Example: "  dovetail outbox held --store sqlite:catalog.db --limit 20",
		Args:    arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if limit < 1 {
				return misuse("--limit %d: want 1 or more", limit)
			}
			return a.withStore(cmd.Context(), func(ctx context.Context, db database) error {
				lines := []heldLine{}
				for shard := range db.Shards() {
					for after := (store.Position{}); len(lines) < limit; {
						page, err := db.Browse(ctx, shard, after, min(500, limit-len(lines)))
						if err != nil {
							return err
						}
						if len(page) == 0 {
							break
						}
						for _, h := range page {
							lines = append(lines, heldOf(shard, h))
						}
						after = page[len(page)-1].Position
					}
				}
				return a.printHeld(lines)
			})
		},
	}
	cmd.Flags().IntVar(&limit, "limit", 100, "list this many at most")
	return cmd
}

func heldOf(shard int, h store.Held) heldLine {
	m := h.Message
	return heldLine{Shard: shard, ID: m.ID, Source: m.Source, Type: m.Type, Channel: m.Channel, Key: m.Key,
		Since: h.Since, Attempts: h.Lane.Attempts, Retry: h.Lane.Retry, Error: h.Lane.Error, Bytes: len(m.Body)}
}

func (a *app) printHeld(lines []heldLine) error {
	return a.print(lines, func(w io.Writer) error {
		if len(lines) == 0 {
			a.note("nothing is held")
			return nil
		}
		return columns(w, "CHANNEL\tKEY\tID\tSINCE\tATTEMPTS\tERROR", func(row func(...any)) {
			for _, l := range lines {
				row(l.Channel, short(l.Key, 24), l.ID, age(&l.Since), l.Attempts, short(l.Error, 60))
			}
		})
	})
}

func (a *app) outboxRetry() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "retry [CHANNEL]",
		Short: "Have held messages tried again at once",
		Long: `Have the held messages of a channel, or with --all of every channel, tried again at
once rather than when it is their time. The relay that runs does it.`,
		Example: `  dovetail outbox retry catalog.stock-ran-low --store sqlite:catalog.db
  dovetail outbox retry --all --store sqlite:catalog.db`,
		Args: arguments(0, 1, "the channel"),
		RunE: func(cmd *cobra.Command, args []string) error {
			channel := ""
			switch {
			case len(args) == 1 && all:
				return misuse("--all is every channel: leave %s out, or leave --all out", args[0])
			case len(args) == 1:
				channel = args[0]
			case !all:
				return misuse("name a channel, or say --all")
			}
			return a.withStore(cmd.Context(), func(ctx context.Context, db database) error {
				if err := db.RetryHeld(ctx, channel); err != nil {
					return fmt.Errorf("retry held messages: %w", err)
				}
				a.note("held messages are due now")
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "of every channel")
	return cmd
}
