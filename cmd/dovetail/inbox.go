package main

import (
	"context"
	"fmt"
	"io"

	"github.com/dovetail-go/dovetail/store"
	"github.com/spf13/cobra"
)

// inboxLine is what an inbox knows of a message.
type inboxLine struct {
	Group    string `json:"group"`
	Handler  string `json:"handler"`
	Source   string `json:"source"`
	ID       string `json:"id"`
	State    string `json:"state"` // "unknown": there is no row
	Requeues int    `json:"requeues"`
	Status   string `json:"status,omitempty"` // of the kept reply
	Reply    int    `json:"reply_bytes"`
}

// unknownState says that an inbox has no row.
const unknownState = "unknown"

func (a *app) inboxCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "inbox",
		Short: "See what became of a message in a service's inbox",
		Long: `See what a store's inbox remembers of messages: handled, dead (among the dead
letters), released (sent again from there and not handled yet), cancelled, or
unknown: it never came, is being handled, or was handled so long ago that it is
forgotten. The store is named by --store, DOVETAIL_STORE or a context.`,
		Example: "  dovetail inbox show 0190c2a4-… --group catalog --handler ordering.order-placed.v1 --source ordering --store sqlite:catalog.db",
	})
	cmd.AddCommand(a.inboxShow())
	return cmd
}

func (a *app) inboxShow() *cobra.Command {
	var key store.Key
	cmd := &cobra.Command{
		Use:   "show ID...",
		Short: "Look messages up by id",
		Long: `Look messages up by id. A message is known by the group and the handler that got
it – the handler is the contract's type, as in ordering.order-placed.v1 – and by the
service that sent it. The exit code is 1 if one of them is unknown.`,
		Example: "  dovetail inbox show 0190c2a4-… --group catalog --handler ordering.order-placed.v1 --source ordering --store sqlite:catalog.db",
		Args:    arguments(1, -1, "the message's id"),
		RunE: func(cmd *cobra.Command, ids []string) error {
			for flag, value := range map[string]string{"group": key.Group, "handler": key.Handler, "source": key.Source} {
				if value == "" {
					return misuse("--%s is missing: a message is known by group, handler, source and id", flag)
				}
			}
			return a.withStore(cmd.Context(), func(ctx context.Context, db database) error { return a.showInbox(ctx, db, key, ids) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&key.Group, "group", "", "the subscription's group: a service, or service.name")
	f.StringVar(&key.Handler, "handler", "", "the contract's type, as in ordering.order-placed.v1")
	f.StringVar(&key.Source, "source", "", "the service that sent the message")
	return cmd
}

func (a *app) showInbox(ctx context.Context, db database, key store.Key, ids []string) error {
	keys := make([]store.Key, len(ids))
	for i, id := range ids {
		keys[i] = key
		keys[i].ID = id
	}
	found, err := db.Lookup(ctx, keys)
	if err != nil {
		return fmt.Errorf("look up: %w", err)
	}
	missing := false
	lines := make([]inboxLine, len(ids))
	for i, f := range found {
		k := keys[i]
		lines[i] = inboxLine{k.Group, k.Handler, k.Source, k.ID, string(f.State), f.Requeues, f.Reply.Status, len(f.Reply.Body)}
		if f.State == "" {
			lines[i].State, missing = unknownState, true
		}
	}
	err = a.print(lines, func(w io.Writer) error {
		return columns(w, "ID\tSTATE\tREQUEUES\tREPLY", func(row func(...any)) {
			for _, l := range lines {
				reply := "-"
				if l.Reply > 0 || l.Status != "" {
					reply = fmt.Sprintf("%d bytes %s", l.Reply, l.Status)
				}
				row(l.ID, l.State, l.Requeues, reply)
			}
		})
	})
	if err == nil && missing {
		err = errReported
	}
	return err
}
