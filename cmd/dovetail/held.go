package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/outbox"
	"github.com/spf13/cobra"
)

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
	Message  *shown    `json:"message,omitempty"` // only show prints it
	Stored   string    `json:"stored,omitempty"`  // of attributes and headers, where they cannot be read
}

// heldFlags say which held messages are meant.
type heldFlags struct {
	outbox.HeldFilter
	all   bool
	limit int
}

func (f *heldFlags) filters(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.Channel, "channel", "", "only those of this channel")
	cmd.Flags().StringVar(&f.Key, "key", "", "only messages of this key")
}

func (f *heldFlags) empty() bool { return f.Channel+f.Key == "" && len(f.IDs) == 0 }

// what says in words which are meant.
func (f *heldFlags) what() string {
	var parts []string
	if len(f.IDs) > 0 {
		parts = append(parts, "of id "+strings.Join(f.IDs, ", "))
	}
	if f.Channel != "" {
		parts = append(parts, "of channel "+f.Channel)
	}
	if f.Key != "" {
		parts = append(parts, "of key "+f.Key)
	}
	return strings.Join(parts, " and ")
}

// none says that nothing is held of what was meant.
func (f *heldFlags) none() error {
	return fmt.Errorf("nothing is held %s: dovetail outbox held shows what is", clean(f.what()))
}

func (a *app) outboxHeld() *cobra.Command {
	var f heldFlags
	cmd := &cobra.Command{
		Use:   "held",
		Short: "List messages that were set aside",
		Example: `  dovetail outbox held --store sqlite:catalog.db --limit 20
  dovetail outbox held --channel catalog.stock-ran-low --store sqlite:catalog.db`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.limit < 1 {
				return misuse("--limit %d: want 1 or more", f.limit)
			}
			return a.withStore(cmd.Context(), func(ctx context.Context, db database) error {
				found, more, err := outbox.FindHeld(ctx, db, f.HeldFilter, f.limit)
				if err != nil {
					return err
				}
				if more {
					a.note("there are more: --limit lists as many as it says")
				}
				lines := []heldLine{}
				for i := range found {
					lines = append(lines, heldOf(&found[i]))
				}
				return a.printHeld(lines)
			})
		},
	}
	f.filters(cmd)
	cmd.Flags().IntVar(&f.limit, "limit", 100, "list this many at most")
	return cmd
}

func heldOf(h *outbox.HeldMessage) heldLine {
	m := h.Message
	return heldLine{Shard: h.Shard, ID: m.ID, Source: m.Source, Type: m.Type, Channel: m.Channel, Key: m.Key,
		Since: h.Since, Attempts: h.Lane.Attempts, Retry: h.Lane.Retry, Error: heldError(h), Bytes: len(m.Body)}
}

// heldError is why a message is held: what keeps its own row from being read, or
// what its lane failed with.
func heldError(h *outbox.HeldMessage) string {
	if h.Err != nil {
		return "cannot be read: " + h.Err.Error()
	}
	return h.Lane.Error
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

func (a *app) outboxShow() *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show a held message with everything that is known of it",
		Long: `Show a held message, by its id, with its body, headers and error. Of one whose row
cannot be read, what is stored of its attributes and headers is shown as it is.`,
		Example: "  dovetail outbox show 01977a3e-5f0b-7c1e-9f60-5a2b8f1c3d4e --store sqlite:catalog.db",
		Args:    arguments(1, 1, "the message's id"),
		RunE: func(cmd *cobra.Command, args []string) error {
			f := heldFlags{HeldFilter: outbox.HeldFilter{IDs: args}}
			return a.withStore(cmd.Context(), func(ctx context.Context, db database) error {
				found, _, err := outbox.FindHeld(ctx, db, f.HeldFilter, 0)
				if err != nil {
					return err
				}
				if len(found) == 0 {
					return f.none()
				}
				for i := range found {
					l := heldOf(&found[i])
					m := show(found[i].Message)
					l.Message, l.Stored = &m, found[i].Text
					if err := a.printOne(l, func(w io.Writer) error { return writeHeld(w, &found[i]) }); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

// writeHeld shows a held message to a person.
func writeHeld(w io.Writer, h *outbox.HeldMessage) error {
	m := h.Message
	err := columns(w, "", func(row func(...any)) {
		row("message", m.ID)
		row("channel", m.Channel)
		row("key", orDash(m.Key))
		row("held since", h.Since.Local().Format(time.RFC3339))
		row("attempts", h.Lane.Attempts)
		row("tried again", clock(h.Lane.Retry))
		row("error", heldError(h))
		row("source", orDash(m.Source))
		row("type", orDash(m.Type))
		if !m.Time.IsZero() {
			row("time", m.Time.Local().Format(time.RFC3339Nano))
		}
		if !m.Due.IsZero() {
			row("due", m.Due.Local().Format(time.RFC3339Nano))
		}
		row("content type", orDash(m.ContentType))
		for _, h := range m.Headers {
			row("header "+h.Name, h.Value)
		}
		for line := range strings.Lines(h.Text) {
			if line = strings.TrimSuffix(line, "\n"); line != "" {
				row("stored", line)
			}
		}
	})
	if err == nil {
		_, err = fmt.Fprintf(w, "\n%s\n", preview(m, 1<<16))
	}
	return err
}
