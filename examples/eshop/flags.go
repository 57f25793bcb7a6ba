package main

import (
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/dovetail-go/dovetail/examples/eshop/invoice"
	"github.com/dovetail-go/dovetail/examples/eshop/shop"
)

const usage = `Eshop replays invoices through four services and draws up the balance.

Usage:
  eshop [flags]

Examples:
  eshop --once                                  replay a built-in set and end
  eshop --once --orders online-retail.csv       replay a file
  eshop --once --kill-every 300ms               the services are processes, and are killed
  eshop --once --orders shop.csv -o json        the balance for programs
  zcat shop.csv.gz | eshop --once --orders -    from standard input

Flags:
  --orders FILE        invoices: CSV with InvoiceNo, StockCode, Quantity, UnitPrice and, if there,
                       CustomerID, InvoiceDate, Description, Country; - for standard input
                       (default: a built-in set)
  --invoices N         how many invoices the built-in set has (default 400)
  --dates dmy|mdy      how dates like 3/4/2011 are read (default: as the file shows)
  --once               end after the balance; without it the shop stays open until Ctrl-C
  --kill-every D       run the services as processes and kill one at random every D, until
                       all invoices are through
  --seed N             of the built-in set, and of who is killed (default 1)
  --in-flight N        invoices in hand at once (default 32)
  --dir DIR            where databases and broker keep their files; one for each file of
                       invoices (default: a temporary one, removed at the end)
  --keep               keep the temporary directory
  -o table|json        how the balance is printed (default table)
  -v                   log more
  -h, --help           this text

The balance goes to standard output, progress and what cannot be used to standard
error. Exit codes: 0 it balances, 1 it does not or something failed, 2 used wrongly.
`

// flags are what was asked for on the command line.
type flags struct {
	orders    string
	invoices  int
	dates     invoice.DateOrder
	once      bool
	killEvery time.Duration
	seed      uint64
	inFlight  int
	dir       string
	keep      bool
	output    string
	level     slog.Level
}

func parseFlags(args []string) (f flags, err error) {
	set := flag.NewFlagSet("eshop", flag.ContinueOnError)
	set.SetOutput(io.Discard) // main says what is wrong
	set.StringVar(&f.orders, "orders", "", "")
	set.IntVar(&f.invoices, "invoices", 400, "")
	set.StringVar((*string)(&f.dates), "dates", "", "")
	set.BoolVar(&f.once, "once", false, "")
	set.DurationVar(&f.killEvery, "kill-every", 0, "")
	set.Uint64Var(&f.seed, "seed", 1, "")
	set.IntVar(&f.inFlight, "in-flight", 32, "")
	set.StringVar(&f.dir, "dir", "", "")
	set.BoolVar(&f.keep, "keep", false, "")
	set.StringVar(&f.output, "o", "table", "")
	verbose := set.Bool("v", false, "")
	if err := set.Parse(args); err != nil {
		return f, err
	}
	f.level = slog.LevelError
	if *verbose {
		f.level = slog.LevelInfo
	}
	given := map[string]bool{}
	set.Visit(func(g *flag.Flag) { given[g.Name] = true })
	switch {
	case set.NArg() > 0:
		return f, fmt.Errorf("unexpected %q: a file is given with --orders", set.Arg(0))
	case given["orders"] && f.orders == "":
		return f, fmt.Errorf("--orders is empty: want a file, or - for standard input")
	case given["orders"] && given["invoices"]:
		return f, fmt.Errorf("--invoices is for the built-in set: leave it out with --orders")
	case f.invoices < 1 || f.invoices > 100_000:
		return f, fmt.Errorf("--invoices %d: want 1 to 100000", f.invoices)
	case f.dates != invoice.DateAuto && f.dates != invoice.DayFirst && f.dates != invoice.MonthFirst:
		return f, fmt.Errorf("--dates %q: want dmy or mdy", f.dates)
	case given["kill-every"] && f.killEvery < 10*time.Millisecond:
		return f, fmt.Errorf("--kill-every %v: want 10ms or more", f.killEvery)
	case f.inFlight < 1 || f.inFlight > 10_000:
		return f, fmt.Errorf("--in-flight %d: want 1 to 10000", f.inFlight)
	case f.output != "table" && f.output != "json":
		return f, fmt.Errorf("-o %q: want table or json", f.output)
	case f.keep && f.dir != "":
		return f, fmt.Errorf("--keep is for the temporary directory: one given with --dir is kept in any case")
	}
	return f, nil
}

// openOrders opens the invoices to replay.
func openOrders(f flags) (o shop.Orders, done func() error, err error) {
	done = func() error { return nil }
	switch f.orders {
	case "":
		return shop.Generated(f.seed, f.invoices), done, nil
	case "-":
		return shop.Orders{Name: "standard input", Data: os.Stdin}, done, nil
	}
	file, err := os.Open(f.orders)
	if err != nil {
		return o, done, err
	}
	o = shop.Orders{Name: f.orders, Data: file}
	info, err := file.Stat()
	switch {
	case err == nil && info.IsDir():
		err = fmt.Errorf("%s is a directory: want a file of invoices", f.orders)
	case err == nil && info.Mode().IsRegular():
		o.Size = info.Size()
	}
	if err != nil {
		_ = file.Close() // nothing was read from it
	}
	return o, file.Close, err
}

// openDir makes the directory for databases and broker.
func openDir(f flags) (dir string, done func() error, err error) {
	if f.dir != "" {
		return f.dir, func() error { return nil }, os.MkdirAll(f.dir, 0o700)
	}
	dir, err = os.MkdirTemp("", "eshop-")
	if err != nil {
		return "", nil, err
	}
	return dir, func() error {
		if f.keep {
			fmt.Fprintf(os.Stderr, "databases and messages are in %s\n", dir)
			return nil
		}
		return os.RemoveAll(dir)
	}, nil
}
