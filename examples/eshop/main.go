// Eshop replays a file of invoices through four services – ordering, catalog,
// payment and mail – that speak by messages alone, and draws up the balance. It
// needs nothing installed: the broker is embedded, and each service has a
// SQLite file of its own.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/dovetail-go/dovetail/examples/eshop/invoice"
	"github.com/dovetail-go/dovetail/examples/eshop/shop"
)

// Exit codes.
const (
	exitDone = iota
	exitFailed
	exitUsage
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == serveCommand {
		os.Exit(serve(os.Args[2:]))
	}
	f, err := parseFlags(os.Args[1:])
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Print(usage)
		os.Exit(exitDone)
	case err != nil:
		fmt.Fprintf(os.Stderr, "eshop: %v\nTry eshop --help.\n", err)
		os.Exit(exitUsage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends at once
	balanced, err := run(ctx, f)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case errors.Is(err, context.Canceled) && interrupted:
		fmt.Fprintln(os.Stderr, "eshop: interrupted before the balance")
		os.Exit(exitFailed)
	case err != nil:
		fmt.Fprintf(os.Stderr, "eshop: %v\n", err)
		os.Exit(exitFailed)
	case !balanced:
		os.Exit(exitFailed)
	}
}

// run replays, prints the balance, and reports whether it holds.
func run(ctx context.Context, f flags) (balanced bool, err error) {
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: f.level}))
	orders, closeOrders, err := openOrders(f)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, closeOrders()) }()
	dir, removeDir, err := openDir(f)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, removeDir()) }()

	display := shop.NewDisplay(os.Stderr)
	cfg := shop.Config{
		Orders: orders, Dates: f.dates, KillEvery: f.killEvery, Seed: f.seed, InFlight: f.inFlight, Logger: logger,
		Progress: display.Show, Stay: !f.once,
		Unusable: func(p invoice.Problem) { display.Note("%s: unusable %v", orders.Name, p) },
	}
	var printing error
	cfg.Balance = func(b *shop.Balance) {
		display.Clear()
		printing = show(b, f.output)
		if cfg.Stay {
			display.Note("The shop stays open until Ctrl-C.")
		}
	}
	closeBroker, err := wire(ctx, &cfg, f, dir)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, closeBroker()) }()
	b, err := shop.Run(ctx, cfg)
	display.Clear()
	if err = errors.Join(err, printing); err != nil {
		return false, err
	}
	return b.Balanced, nil
}

func show(b *shop.Balance, output string) error {
	if output != "json" {
		return b.Print(os.Stdout)
	}
	out := json.NewEncoder(os.Stdout)
	out.SetIndent("", "  ")
	return out.Encode(b)
}
