package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/dovetail-go/dovetail/examples/eshop/invoice"
	"github.com/dovetail-go/dovetail/examples/eshop/shop"
	"github.com/spf13/cobra"
)

// A demo is what the demo command was asked for.
type demo struct {
	a         *app
	orders    string
	invoices  int
	dates     string
	once      bool
	killEvery time.Duration
	seed      uint64
	inFlight  int
}

func (a *app) demoCommand() *cobra.Command {
	d := &demo{a: a}
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the eShop: orders through four services, to a balance",
		Long: `Run the eShop: a file of invoices, or a built-in set, goes through ordering,
catalog, payment and mail, which speak by messages alone. It ends with a balance:
placed, completed, refused, lost, double. The exit code is 1 if it does not hold.

It runs on the embedded broker and on SQLite files in a temporary directory, unless
--broker and --store name others. Each service has a file of its own below
sqlite:DIR, or a schema of its own in a PostgreSQL database: eshop_ordering and so
on, or whatever ?schema=NAME says that the names begin with. What is there stays
there, and another file of invoices wants another place. Contexts are not used: the
demo must not end up on a broker that others use.`,
		Example: `  dovetail demo --once
  dovetail demo --once --orders online-retail.csv --kill-every 300ms
  dovetail demo --once --broker file:/tmp/shop/bus --store sqlite:/tmp/shop -o json
  dovetail demo --once --broker kafka://127.0.0.1:9092 --store 'postgres://shop@127.0.0.1/shop?schema=try1'`,
		Args: arguments(0, 0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := d.check(cmd); err != nil {
				return err
			}
			return d.run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&d.orders, "orders", "", "invoices: CSV with InvoiceNo, StockCode, Quantity, UnitPrice; - for standard input (default: a built-in set)")
	f.IntVar(&d.invoices, "invoices", 400, "how many invoices the built-in set has")
	f.StringVar(&d.dates, "dates", "", "how dates like 3/4/2011 are read: dmy or mdy (default: as the file shows)")
	f.BoolVar(&d.once, "once", false, "end after the balance; without it the shop stays open until Ctrl-C")
	f.DurationVar(&d.killEvery, "kill-every", 0, "run the services as processes and kill one at random so often, until all invoices are through")
	f.Uint64Var(&d.seed, "seed", 1, "of the built-in set, and of who is killed")
	f.IntVar(&d.inFlight, "in-flight", 32, "invoices in hand at once")
	cmd.AddCommand(a.demoServe())
	return cmd
}

func (d *demo) check(cmd *cobra.Command) error {
	given := cmd.Flags().Changed
	dates := invoice.DateOrder(d.dates)
	switch {
	case given("orders") && d.orders == "":
		return misuse("--orders is empty: want a file, or - for standard input")
	case given("orders") && given("invoices"):
		return misuse("--invoices is for the built-in set: leave it out with --orders")
	case d.invoices < 1 || d.invoices > 100_000:
		return misuse("--invoices %d: want 1 to 100000", d.invoices)
	case dates != invoice.DateAuto && dates != invoice.DayFirst && dates != invoice.MonthFirst:
		return misuse("--dates %q: want dmy or mdy", d.dates)
	case given("kill-every") && d.killEvery < 10*time.Millisecond:
		return misuse("--kill-every %v: want 10ms or more", d.killEvery)
	case d.inFlight < 1 || d.inFlight > 10_000:
		return misuse("--in-flight %d: want 1 to 10000", d.inFlight)
	}
	return nil
}

// run replays, prints the balance, and fails if it does not hold.
func (d *demo) run(ctx context.Context) (err error) {
	orders, closeOrders, err := d.open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeOrders()) }()
	show := func(shop.Progress) {}
	clear := func() {}
	if f, ok := bare(d.a.err).(*os.File); ok {
		display := shop.NewDisplay(f)
		show, clear = display.Show, display.Clear
	}
	// What the services log while one of them is being killed is no news.
	level := slog.LevelError
	if d.a.verbose {
		level = slog.LevelInfo
	}
	var printed error
	cfg := shop.Config{
		Orders: orders, Dates: invoice.DateOrder(d.dates), KillEvery: d.killEvery, Seed: d.seed, InFlight: d.inFlight, Stay: !d.once,
		Logger:   slog.New(slog.NewTextHandler(d.a.err, &slog.HandlerOptions{Level: level})),
		Progress: show,
		Unusable: func(p invoice.Problem) {
			clear()
			d.a.note("%s: unusable %v", orders.Name, p)
		},
		Balance: func(b *shop.Balance) {
			clear()
			printed = d.a.print(b, func(w io.Writer) error { return b.Print(w) })
			if !d.once {
				d.a.note("the shop stays open until Ctrl-C")
			}
		},
	}
	release, err := d.wire(ctx, &cfg)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	b, err := shop.Run(ctx, cfg)
	clear()
	if err = errors.Join(err, printed); err != nil {
		return err
	}
	if !b.Balanced {
		return errors.New("the balance does not hold")
	}
	return nil
}

// open opens the invoices to replay.
func (d *demo) open() (o shop.Orders, done func() error, err error) {
	done = func() error { return nil }
	switch d.orders {
	case "":
		return shop.Generated(d.seed, d.invoices), done, nil
	case "-":
		return shop.Orders{Name: "standard input", Data: d.a.in}, done, nil
	}
	file, err := os.Open(d.orders)
	if err != nil {
		return o, done, err
	}
	o = shop.Orders{Name: d.orders, Data: file}
	info, err := file.Stat()
	switch {
	case err == nil && info.IsDir():
		err = fmt.Errorf("%s is a directory: want a file of invoices", d.orders)
	case err == nil && info.Mode().IsRegular():
		o.Size = info.Size()
	}
	if err != nil {
		return o, done, errors.Join(err, file.Close())
	}
	return o, file.Close, nil
}
