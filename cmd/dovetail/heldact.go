package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/outbox"
	"github.com/spf13/cobra"
)

func (a *app) outboxEdit() *cobra.Command {
	var data, contentType, typ string
	var headers []string
	cmd := &cobra.Command{
		Use:   "edit ID",
		Short: "Change a held message, and have it tried again at once",
		Long: `Change body, headers or type of a held message, and have it tried again at once. It
keeps its id, channel, key and place: behind an inbox it takes effect once. What
cannot be read of its attributes and headers is left out; outbox show shows it.`,
		Example: `  dovetail outbox edit 01977a3e-5f0b-7c1e-9f60-5a2b8f1c3d4e --data @small.json --store sqlite:catalog.db
  dovetail outbox edit 01977a3e-5f0b-7c1e-9f60-5a2b8f1c3d4e --header checked-by=ana --store sqlite:catalog.db`,
		Args: arguments(1, 1, "the message's id"),
	}
	f := cmd.Flags()
	f.StringVarP(&data, "data", "d", "", "the new body; @FILE reads it from a file")
	f.StringArrayVarP(&headers, "header", "H", nil, "name=value to set; an empty value removes the header; may be repeated")
	f.StringVar(&contentType, "content-type", "", "the new body's media type (default: as it was)")
	f.StringVar(&typ, "type", "", "the message's type (default: as it was)")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if !f.Changed("data") && len(headers) == 0 && contentType == "" && typ == "" {
			return misuse("nothing to change: give --data, --header, --content-type or --type")
		}
		for _, h := range headers {
			if name, _, ok := strings.Cut(h, "="); !ok || name == "" {
				return misuse("--header %q: want name=value", h)
			}
		}
		body, given, err := (&draft{data: data}).one(cmd)
		if err != nil {
			return err
		}
		return a.withStore(cmd.Context(), func(ctx context.Context, db database) error {
			what := heldFlags{HeldFilter: outbox.HeldFilter{IDs: args}}
			found, _, err := outbox.FindHeld(ctx, db, what.HeldFilter, 0)
			switch {
			case err != nil:
				return err
			case len(found) == 0:
				return what.none()
			case len(found) > 1:
				return fmt.Errorf("%d held messages have the id %s: discard those that are not meant", len(found), args[0])
			}
			item := deadItem{}
			item.Message = found[0].Message
			if err := item.edit(body, given, contentType, headers); err != nil {
				return err
			}
			if typ != "" {
				item.Message.Type = typ
			}
			if err := checkText(item.Message); err != nil {
				return err
			}
			if err := outbox.EditHeld(ctx, db, found[0], item.Message); err != nil {
				return err
			}
			a.note("edited; it is tried again by the relay that runs")
			return nil
		})
	}
	return cmd
}

// checkText refuses what no transport would take.
func checkText(m *driver.Message) error {
	if err := driver.ValidText(m.Type); err != nil {
		return misuse("--type: %v", err)
	}
	if err := driver.ValidText(m.ContentType); err != nil {
		return misuse("--content-type: %v", err)
	}
	for _, h := range m.Headers {
		if err := errors.Join(driver.ValidText(h.Name), driver.ValidText(h.Value)); err != nil {
			return misuse("--header %s: %v", clean(h.Name), err)
		}
	}
	if isJSON(m.ContentType) && len(m.Body) > 0 && !json.Valid(m.Body) {
		return errors.New("the body is not valid JSON: give another with --data, or say what it is with --content-type")
	}
	return nil
}

func (a *app) outboxDiscard() *cobra.Command {
	var f heldFlags
	var yes, dryRun bool
	cmd := &cobra.Command{
		Use:   "discard [ID...]",
		Short: "Delete held messages for good",
		Long: `Delete held messages for good: by their ids, of a channel, of a key, or all. What
waits behind them in their keys is tried again at once. It says how many there are
and asks first, unless --yes is given.`,
		Example: `  dovetail outbox discard 01977a3e-5f0b-7c1e-9f60-5a2b8f1c3d4e --store sqlite:catalog.db
  dovetail outbox discard --channel catalog.stock-ran-low --key 4711 --yes --store sqlite:catalog.db
  dovetail outbox discard --all --dry-run --store sqlite:catalog.db`,
		RunE: func(cmd *cobra.Command, args []string) error {
			f.IDs = args
			if err := f.check("discard"); err != nil {
				return err
			}
			return a.withStore(cmd.Context(), func(ctx context.Context, db database) error {
				found, _, err := outbox.FindHeld(ctx, db, f.HeldFilter, 0)
				switch {
				case err != nil:
					return err
				case len(found) == 0 && f.all:
					a.note("nothing is held")
					return nil
				case len(found) == 0:
					return f.none()
				case dryRun:
					a.note("%s would be discarded", heldCount(len(found)))
					return nil
				case !yes:
					if err := a.confirm(fmt.Sprintf("discard %s for good?", heldCount(len(found)))); err != nil {
						return err
					}
				}
				// Whoever was asked may have taken longer than the others' time.
				ctx, cancel := context.WithTimeout(cmd.Context(), a.timeout)
				defer cancel()
				n, err := outbox.DiscardHeld(ctx, db, found)
				a.note("%s discarded", heldCount(n))
				return err
			})
		},
	}
	f.filters(cmd)
	cmd.Flags().BoolVar(&f.all, "all", false, "all that is held")
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say how many there are, and do nothing")
	return cmd
}

// heldCount is a number of held messages in words.
func heldCount(n int) string {
	if n == 1 {
		return "1 held message"
	}
	return fmt.Sprintf("%d held messages", n)
}

// check says whether it is clear which messages are meant.
func (f *heldFlags) check(verb string) error {
	switch {
	case f.all && !f.empty():
		return misuse("--all is everything that is held: leave %s out, or leave --all out", f.what())
	case !f.all && f.empty():
		return misuse("%s which held messages? name a channel, their key or their ids, or say --all", verb)
	}
	return nil
}

func (a *app) outboxRetry() *cobra.Command {
	var f heldFlags
	var channel string
	cmd := &cobra.Command{
		Use:   "retry [CHANNEL]",
		Short: "Have held messages tried again at once",
		Long: `Have held messages of a channel, of a key or of some ids, each with all that is held
of its key, or with --all every one, tried again at once rather than when it is
their time. The relay that runs does it.`,
		Example: `  dovetail outbox retry catalog.stock-ran-low --store sqlite:catalog.db
  dovetail outbox retry catalog.stock-ran-low --key 4711 --store sqlite:catalog.db
  dovetail outbox retry --all --store sqlite:catalog.db`,
		Args: arguments(0, 1, "the channel"),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case len(args) == 1 && channel != "":
				return misuse("the channel is named twice: leave --channel out")
			case len(args) == 1:
				f.Channel = args[0]
			default:
				f.Channel = channel
			}
			switch {
			case f.all && !f.empty():
				return misuse("--all is every channel: leave %s out, or leave --all out", f.what())
			case !f.all && f.empty():
				return misuse("name a channel, or say --all")
			}
			return a.withStore(cmd.Context(), func(ctx context.Context, db database) error {
				n, err := outbox.RetryHeld(ctx, db, f.HeldFilter)
				switch {
				case err != nil:
					return fmt.Errorf("retry held messages: %w", err)
				case n == 0 && f.all:
					a.note("nothing is held")
				case n == 0:
					return f.none()
				default:
					a.note("held messages are due now: %d keys, or messages without one", n)
				}
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&channel, "channel", "", "of this channel")
	cmd.Flags().StringVar(&f.Key, "key", "", "of this key")
	cmd.Flags().StringArrayVar(&f.IDs, "id", nil, "of this id, with all that is held of its key; may be repeated")
	cmd.Flags().BoolVar(&f.all, "all", false, "of every channel")
	return cmd
}
