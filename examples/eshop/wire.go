package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/examples/eshop/shop"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
	"github.com/dovetail-go/dovetail/transport/natsbus/embedded"
)

// What processes of services are told: the broker's address has a token in it
// and does not belong on a command line.
const (
	serveCommand = "serve" // eshop serve SERVICE INSTANCE DIR
	brokerEnv    = "ESHOP_BROKER"
)

// wire says what the shop runs on: the embedded broker, and SQLite files below
// dir. What a killed process had in hand is delivered again after ack-wait; a
// handler that takes longer extends that.
func wire(ctx context.Context, cfg *shop.Config, f flags, dir string) (done func() error, err error) {
	broker := filepath.Join(dir, "broker")
	done = func() error { return nil }
	if f.killEvery == 0 {
		on(cfg, "embedded:?ack-wait=5s&dir="+url.QueryEscape(broker), dir)
		return done, nil
	}
	self, err := os.Executable()
	if err != nil {
		return done, fmt.Errorf("find the program to run the services with: %w", err)
	}
	token := rand.Text()
	server, err := embedded.Start(ctx, embedded.Options{Dir: broker, Listen: "127.0.0.1:0", Token: token, Logger: cfg.Logger})
	if err != nil {
		return done, err
	}
	address := server.ClientURL() + "?ack-wait=1s&token=" + token
	on(cfg, address, dir)
	cfg.Process = func(ctx context.Context, service, instance string) *exec.Cmd {
		cmd := exec.CommandContext(ctx, self, serveCommand, service, instance, dir)
		cmd.Env = append(os.Environ(), brokerEnv+"="+address)
		return cmd
	}
	return func() error { return server.Close(context.WithoutCancel(ctx)) }, nil
}

// on has the services connect to a broker and keep their tables below dir.
func on(cfg *shop.Config, broker, dir string) {
	cfg.Connect = func(ctx context.Context, service string, o dovetail.Options) (*dovetail.Service, error) {
		return dovetail.Open(ctx, service, broker, o)
	}
	cfg.OpenStore = func(ctx context.Context, service string) (shop.Store, error) {
		return sqlitestore.Open(ctx, filepath.Join(dir, service+".db"))
	}
}

// serve is the program as one service's process. A Ctrl-C at the terminal goes
// to all processes; the services wait for the shop to end them.
func serve(args []string) int {
	signal.Ignore(os.Interrupt)
	err := errors.New("serve is for the program itself: run eshop --help")
	if broker := os.Getenv(brokerEnv); len(args) == 3 && broker != "" {
		cfg := shop.Config{Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
		on(&cfg, broker, args[2])
		err = shop.Serve(context.Background(), cfg, args[0], args[1], os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return exitFailed
	}
	return exitDone
}
