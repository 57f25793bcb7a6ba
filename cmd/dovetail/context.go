package main

import (
	"io"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/spf13/cobra"
)

// A contextLine is a context as it is shown: without passwords.
type contextLine struct {
	Name    string `json:"name"`
	Current bool   `json:"current"`
	Broker  string `json:"broker,omitempty"`
	Store   string `json:"store,omitempty"`
}

func (a *app) contextCommand() *cobra.Command {
	cmd := group(&cobra.Command{
		Use:   "context",
		Short: "Name a broker and a store once",
		Long: `Name a broker URL and a store URL once, and use them by that name.

The names are kept in contexts.json in the user's configuration directory. A
command uses the context that --context or DOVETAIL_CONTEXT names, or else the
current one; --broker and --store go before both.`,
		Example: `  dovetail context set staging --broker nats://queue.staging:4222
  dovetail context use staging
  dovetail context list`,
	})
	cmd.AddCommand(a.contextSet(), a.contextUse(), a.contextList(), a.contextRemove())
	return cmd
}

func (a *app) contextSet() *cobra.Command {
	return &cobra.Command{
		Use:     "set NAME",
		Short:   "Give a broker and a store a name, and make it the current one",
		Example: "  dovetail context set local --broker nats://127.0.0.1:4222 --store sqlite:data/catalog.db",
		Args:    arguments(1, 1, "the context's name"),
		RunE: func(_ *cobra.Command, args []string) error {
			if a.broker == "" && a.store == "" {
				return misuse("name a broker with --broker, or a store with --store")
			}
			for _, url := range []string{a.broker, a.store} {
				if err := checkURL(url); err != nil {
					return err
				}
			}
			c, err := loadContexts()
			if err != nil {
				return err
			}
			p := c.Named[args[0]]
			if a.broker != "" {
				p.Broker = a.broker
			}
			if a.store != "" {
				p.Store = a.store
			}
			c.Named[args[0]], c.Current = p, args[0]
			if err := c.save(); err != nil {
				return err
			}
			a.note("context %s is set and current", args[0])
			return nil
		},
	}
}

func (a *app) contextUse() *cobra.Command {
	return &cobra.Command{
		Use:     "use NAME",
		Short:   "Make a context the current one",
		Example: "  dovetail context use staging",
		Args:    arguments(1, 1, "the context's name"),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := loadContexts()
			if err != nil {
				return err
			}
			if _, err := c.get(args[0]); err != nil {
				return err
			}
			c.Current = args[0]
			return c.save()
		},
	}
}

func (a *app) contextList() *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Short:   "List the contexts",
		Example: "  dovetail context list -o json",
		Args:    arguments(0, 0, ""),
		RunE: func(*cobra.Command, []string) error {
			c, err := loadContexts()
			if err != nil {
				return err
			}
			lines := []contextLine{}
			for _, name := range c.names() {
				p := c.Named[name]
				lines = append(lines, contextLine{name, name == c.Current, driver.Redact(p.Broker), driver.Redact(p.Store)})
			}
			return a.print(lines, func(w io.Writer) error {
				return columns(w, "\tNAME\tBROKER\tSTORE", func(row func(...any)) {
					for _, l := range lines {
						mark := ""
						if l.Current {
							mark = "*"
						}
						row(mark, l.Name, l.Broker, l.Store)
					}
				})
			})
		},
	}
}

func (a *app) contextRemove() *cobra.Command {
	return &cobra.Command{
		Use:     "remove NAME",
		Short:   "Forget a context",
		Example: "  dovetail context remove staging",
		Args:    arguments(1, 1, "the context's name"),
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := loadContexts()
			if err != nil {
				return err
			}
			if _, err := c.get(args[0]); err != nil {
				return err
			}
			delete(c.Named, args[0])
			if c.Current == args[0] {
				c.Current = ""
			}
			return c.save()
		},
	}
}
