package shop_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/examples/eshop/invoice"
	"github.com/dovetail-go/dovetail/examples/eshop/shop"
	"github.com/dovetail-go/dovetail/internal/leak"
	"github.com/dovetail-go/dovetail/store/sqlitestore"
	"github.com/dovetail-go/dovetail/transport/membus"
)

func TestMain(m *testing.M) { os.Exit(leak.Main(m)) }

// on is a shop in memory, but for its databases, which are in dir.
func on(t *testing.T, dir string, orders shop.Orders) shop.Config {
	t.Helper()
	bus, err := membus.New(membus.Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn := bus.Connect()
	t.Cleanup(func() {
		if err := conn.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return shop.Config{
		Orders: orders,
		Connect: func(_ context.Context, service string, o dovetail.Options) (*dovetail.Service, error) {
			return dovetail.New(service, conn, o), nil
		},
		OpenStore: func(ctx context.Context, service string) (shop.Store, error) {
			return sqlitestore.Open(ctx, filepath.Join(dir, service+".db"), sqlitestore.Options{Unsafe: true})
		},
		Patience: 5 * time.Second,
		Logger:   slog.New(slog.NewTextHandler(t.Output(), nil)),
	}
}

func text(name, data string) shop.Orders {
	return shop.Orders{Name: name, Size: int64(len(data)), Data: strings.NewReader(data)}
}

func run(t *testing.T, cfg shop.Config) *shop.Balance {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b, err := shop.Run(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRun_balances_the_built_in_orders(t *testing.T) {
	var problems []invoice.Problem
	cfg := on(t, t.TempDir(), shop.Generated(1, 200))
	cfg.Unusable = func(p invoice.Problem) { problems = append(problems, p) }
	b := run(t, cfg)
	if !b.Balanced || b.Lost != 0 || b.Double != 0 {
		t.Errorf("lost %d, double %d: %v", b.Lost, b.Double, b.Remarks)
	}
	if b.Unusable != 10 || len(problems) != b.Unusable {
		t.Errorf("%d lines unusable, %d reported, want 10", b.Unusable, len(problems))
	}
	if b.Placed != 190 || b.Completed != 170 || b.Refused != 20 || b.Cancelled != 10 {
		t.Errorf("placed %d, completed %d, refused %d, cancelled %d; want 190, 170, 20, 10", b.Placed, b.Completed, b.Refused, b.Cancelled)
	}
	for _, code := range []string{"bad-quantity", "nothing-to-pay", "out-of-stock", "over-limit"} {
		if b.RefusedFor[code] != 5 {
			t.Errorf("%d refused for %s, want 5", b.RefusedFor[code], code)
		}
	}
	if b.Caches.Instances != 2 || !b.Caches.Agree {
		t.Errorf("caches: %+v", b.Caches)
	}
	if b.Sent == 0 || b.Handled == 0 {
		t.Errorf("sent %d, handled %d", b.Sent, b.Handled)
	}
	var out strings.Builder
	if err := b.Print(&out); err != nil || !strings.Contains(out.String(), "It balances.") {
		t.Errorf("printed %v:\n%s", err, &out)
	}
}

func TestRun_in_the_same_directory_changes_nothing(t *testing.T) {
	dir := t.TempDir()
	first := run(t, on(t, dir, shop.Generated(2, 80)))
	second := run(t, on(t, dir, shop.Generated(2, 80))) // every order is answered as it was
	if !first.Balanced || !second.Balanced {
		t.Errorf("balances: %v, %v", first.Remarks, second.Remarks)
	}
	if first.Money != second.Money || first.Stock != second.Stock || first.Completed != second.Completed {
		t.Errorf("first %+v\nthen %+v", first, second)
	}
}

func TestRun_says_what_is_lost_and_double(t *testing.T) {
	dir := t.TempDir()
	if b := run(t, on(t, dir, shop.Generated(3, 40))); !b.Balanced {
		t.Fatal(b.Remarks)
	}
	tamper(t, filepath.Join(dir, "mail.db"), `DELETE FROM mails WHERE rowid = 1`)
	tamper(t, filepath.Join(dir, "payment.db"), `INSERT INTO payments SELECT * FROM payments WHERE kind = 'charge' LIMIT 2`)
	cfg := on(t, dir, shop.Generated(3, 40))
	cfg.Patience = 500 * time.Millisecond
	b := run(t, cfg)
	if b.Balanced || b.Lost != 1 || b.Double != 2 {
		t.Errorf("balanced %v, lost %d, double %d; want false, 1, 2", b.Balanced, b.Lost, b.Double)
	}
	var out strings.Builder
	if err := b.Print(&out); err != nil || !strings.Contains(out.String(), "does not balance") {
		t.Errorf("printed %v:\n%s", err, &out)
	}
}

func tamper(t *testing.T, path, statement string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(statement); err != nil {
		t.Fatal(err)
	}
}

func TestRun_refuses_with_a_reason(t *testing.T) {
	const header = "InvoiceNo;StockCode;Quantity;UnitPrice;CustomerID\n"
	for name, tt := range map[string]struct {
		lines, code string
		stock       int64 // difference on the shelves
	}{
		"a negative quantity":     {"1;A;3;1,00;7\n1;B;-1;1,00;7\n", "bad-quantity", 0},
		"a positive cancellation": {"C1;A;3;1,00;7\n", "bad-quantity", 0},
		"nothing to pay":          {"1;A;3;0;7\n", "nothing-to-pay", 0},
		"over the limit":          {"1;A;1000;10,01;7\n", "over-limit", 0},
		"more than is there":      {"1;A;2500;0,01;7\n2;B;1;0,01;7\n2;A;1;0,01;7\n", "out-of-stock", -2500},
		"twice the same thing":    {"1;A;1300;0,01;7\n1;A;1201;0,01;7\n", "out-of-stock", 0},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := on(t, t.TempDir(), text(name, header+tt.lines))
			cfg.InFlight = 1 // in the order of the file
			b := run(t, cfg)
			if !b.Balanced || b.RefusedFor[tt.code] != 1 || len(b.RefusedFor) != 1 {
				t.Errorf("balanced %v, refused for %v, want one %s; %v", b.Balanced, b.RefusedFor, tt.code, b.Remarks)
			}
			if got := b.Stock.OnShelves - int64(b.Stock.SKUs)*2500; got != tt.stock {
				t.Errorf("the shelves changed by %d, want %d", got, tt.stock)
			}
		})
	}
}

func TestRun_ends_in_order_when_interrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cfg := on(t, t.TempDir(), shop.Generated(4, 2_000))
	cfg.Progress = func(p shop.Progress) {
		if p.Completed > 20 {
			cancel()
		}
	}
	began := time.Now()
	if _, err := shop.Run(ctx, cfg); err == nil || ctx.Err() == nil {
		t.Errorf("Run returned %v", err)
	}
	if d := time.Since(began); d > 20*time.Second {
		t.Errorf("it took %v to end", d)
	}
}

func TestRun_says_what_is_wrong_with_its_input(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(*shop.Config)
		want   string
	}{
		"no header":           {func(c *shop.Config) { c.Orders = text("x.csv", "1;2;3\n") }, "x.csv"},
		"an empty file":       {func(c *shop.Config) { c.Orders = text("x.csv", "") }, "empty"},
		"kills without a way": {func(c *shop.Config) { c.KillEvery = time.Second }, "Config.Process"},
		"no store":            {func(c *shop.Config) { c.OpenStore = nil }, "Config.OpenStore"},
		"a broken file": {func(c *shop.Config) {
			c.Orders.Data = io.MultiReader(c.Orders.Data, iotest.ErrReader(errors.New("torn off")))
		}, "torn off"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := on(t, t.TempDir(), shop.Generated(1, 20))
			tt.change(&cfg)
			_, err := shop.Run(t.Context(), cfg)
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want something about %q", err, tt.want)
			}
		})
	}
}
