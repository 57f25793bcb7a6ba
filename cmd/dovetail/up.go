package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"strings"

	"github.com/dovetail-go/dovetail/transport/natsbus/embedded"
	"github.com/spf13/cobra"
)

type upInfo struct {
	Broker    string `json:"broker"`
	Directory string `json:"directory"`
	Durable   string `json:"durable"`
}

func (a *app) upCommand() *cobra.Command {
	var dir, listen, tokenFile, cert, key, save string
	var always, plaintext bool
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Run a broker on this machine, until Ctrl-C",
		Long: `Run a broker on this machine, with nothing to install, until Ctrl-C: a NATS
server with JetStream inside this process. It listens on loopback, so that other
programs reach it by the URL that is printed. What it keeps is there again at the
next start.

Without a token every user of this machine can read and write what is in it. A
token is read from --token-file, or from DOVETAIL_TOKEN: a flag would be in the list
of processes. On an address that others can reach a token is needed, and TLS, or
--plaintext where the network is trusted.`,
		Example: `  dovetail up
  dovetail up --dir ./data --listen 127.0.0.1:0 -o json
  dovetail up --token-file token --save-context local
  dovetail up --listen 0.0.0.0:4222 --token-file token --tls-cert host.pem --tls-key host.key`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			o := embedded.Options{Dir: dir, Listen: listen, Plaintext: plaintext, SyncAlways: always, Logger: slog.Default()}
			if o.Token, err = readToken(tokenFile); err != nil {
				return err
			}
			if cert != "" {
				if o.TLS, err = embedded.LoadTLS(cert, key); err != nil {
					return fmt.Errorf("--tls-cert and --tls-key: %w", err)
				}
			} else if key != "" {
				return misuse("--tls-key is the key of --tls-cert, which is not there: give both")
			}
			server, err := embedded.Start(cmd.Context(), o)
			if err != nil {
				return fmt.Errorf("%w\nname another directory with --dir, or another address with --listen; a token with --token-file, a certificate with --tls-cert, or say --plaintext", err)
			}
			defer func() { err = errors.Join(err, server.Close(context.WithoutCancel(cmd.Context()))) }()
			info := upInfo{server.ClientURL(), server.Dir(), "survives a kill; a loss of power may cost two minutes (with --sync-always: nothing)"}
			if always {
				info.Durable = "survives a kill and a loss of power"
			}
			if save != "" {
				broker := info.Broker
				if o.Token != "" { // the file is for this user alone
					broker += "?token=" + url.QueryEscape(o.Token)
				}
				if err := saveBroker(save, broker); err != nil {
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
			if o.Token == "" {
				a.note("every user of this machine can read and write here: --token-file or DOVETAIL_TOKEN asks for a token")
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
	f.StringVar(&tokenFile, "token-file", "", "file of the token that clients must present; needed where others than this machine can connect (default: DOVETAIL_TOKEN)")
	f.StringVar(&cert, "tls-cert", "", "file of the certificate that clients see, in PEM")
	f.StringVar(&key, "tls-key", "", "file of its key (default: in the same file)")
	f.BoolVar(&plaintext, "plaintext", false, "let token and messages travel unencrypted where others can connect")
	f.BoolVar(&always, "sync-always", false, "write each message to the disk before it is confirmed")
	f.StringVar(&save, "save-context", "", "keep the broker's URL under this name, as the current context")
	return cmd
}

// readToken reads the token from a file, or from the environment; "" for none.
func readToken(file string) (string, error) {
	if file == "" {
		return os.Getenv("DOVETAIL_TOKEN"), nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("--token-file: %w", err)
	}
	token := strings.TrimSpace(string(b))
	if token == "" {
		return "", misuse("--token-file %s is empty: write a token into it, as in openssl rand -hex 16", file)
	}
	return token, nil
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
