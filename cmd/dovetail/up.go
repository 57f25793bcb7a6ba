package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"

	"github.com/dovetail-go/dovetail/transport/natsbus/embedded"
	"github.com/spf13/cobra"
)

type upInfo struct {
	Broker    string `json:"broker"`
	Directory string `json:"directory"`
	Durable   string `json:"durable"`
}

func (a *app) upCommand() *cobra.Command {
	var dir, listen, token, save string
	var always bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run a broker on this machine, until Ctrl-C",
		Long: `Run a broker on this machine, with nothing to install, until Ctrl-C: a NATS
server with JetStream inside this process. It listens on loopback, so that other
programs reach it by the URL that is printed. What it keeps is there again at the
next start.`,
		Example: `  dovetail up
  dovetail up --dir ./data --listen 127.0.0.1:0 -o json
  dovetail up --save-context local`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			server, err := embedded.Start(cmd.Context(), embedded.Options{Dir: dir, Listen: listen, Token: token, SyncAlways: always, Logger: slog.Default()})
			if err != nil {
				return fmt.Errorf("%w\nname another directory with --dir, or another address with --listen", err)
			}
			defer func() { err = errors.Join(err, server.Close(context.WithoutCancel(cmd.Context()))) }()
			info := upInfo{server.ClientURL(), server.Dir(), "survives a kill; a loss of power may cost two minutes (with --sync-always: nothing)"}
			if always {
				info.Durable = "survives a kill and a loss of power"
			}
			if save != "" {
				if err := saveBroker(save, info.Broker); err != nil {
					return err
				}
			}
			err = a.print(info, func(w io.Writer) error {
				return columns(w, "", func(row func(...any)) {
					row("broker", info.Broker)
					row("directory", info.Directory)
					row("durable", info.Durable)
				})
			})
			if err != nil {
				return err
			}
			a.note("ready; Ctrl-C ends it")
			<-cmd.Context().Done()
			a.note("stopping")
			return nil
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "dir", "", "where messages are kept (default: dovetail in the user's data directory)")
	f.StringVar(&listen, "listen", "127.0.0.1:4222", "address to listen on; port 0 for any that is free")
	f.StringVar(&token, "token", "", "what clients must present; needed where others than this machine can connect")
	f.BoolVar(&always, "sync-always", false, "write each message to the disk before it is confirmed")
	f.StringVar(&save, "save-context", "", "keep the broker's URL under this name, as the current context")
	return cmd
}

func saveBroker(name, broker string) error {
	c, err := loadContexts()
	if err != nil {
		return err
	}
	p := c.Named[name]
	p.Broker = broker
	c.Named[name], c.Current = p, name
	return c.save()
}
