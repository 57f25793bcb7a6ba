package main

// The sums that the balance claims, computed again by other means: an own
// reader, big integers, no line of the code under test but the names of tables.

import (
	"bufio"
	"database/sql"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/examples/eshop/shop"
)

// A bookkeeper adds up a file by hand.
type bookkeeper struct {
	lines     int
	shelf     map[string]*big.Int // change, by SKU
	takings   *big.Int            // pence
	completed map[string]*big.Int // order → pence
	refused   map[string]string   // order → code
	returned  map[string]*big.Int // cancellation → pence
	welcome   map[string]bool
}

// addUp reads a file with the columns of the retail file, in their order:
// semicolons, decimal commas, quotes.
func addUp(t *testing.T, data string) *bookkeeper {
	t.Helper()
	k := &bookkeeper{shelf: map[string]*big.Int{}, takings: new(big.Int), completed: map[string]*big.Int{},
		refused: map[string]string{}, returned: map[string]*big.Int{}, welcome: map[string]bool{}}
	type position struct {
		sku              string
		quantity, amount *big.Int
	}
	orders, customers := map[string][]position{}, map[string]string{}
	var names []string
	in := bufio.NewScanner(strings.NewReader(data))
	in.Scan() // the header
	for in.Scan() {
		k.lines++
		f := strings.Split(in.Text(), ";")
		n := len(f) // a description may have anything in it, so count from the end
		if n < 8 {
			t.Fatalf("line %d: %q", k.lines+1, in.Text())
		}
		quantity, ok := new(big.Int).SetString(f[n-5], 10)
		pounds, pence, _ := strings.Cut(f[n-3], ",")
		price, ok2 := new(big.Int).SetString(pounds+(pence + "00")[:2], 10)
		if !ok || !ok2 {
			t.Fatalf("line %d: %q", k.lines+1, in.Text())
		}
		if _, met := orders[f[0]]; !met {
			names = append(names, f[0])
		}
		customers[f[0]] = f[n-2]
		orders[f[0]] = append(orders[f[0]], position{f[1], quantity, new(big.Int).Mul(quantity, price)})
	}
	shelf := func(ps []position) {
		for _, p := range ps {
			if k.shelf[p.sku] == nil {
				k.shelf[p.sku] = new(big.Int)
			}
			k.shelf[p.sku].Sub(k.shelf[p.sku], p.quantity)
		}
	}
	for _, name := range names {
		total, negative, most := new(big.Int), false, map[string]int64{}
		for _, p := range orders[name] {
			total.Add(total, p.amount)
			negative = negative || p.quantity.Sign() < 0
			most[p.sku] += p.quantity.Int64()
		}
		short := false
		for _, n := range most {
			short = short || n > 2500
		}
		switch {
		case name[0] == 'C':
			k.returned[name] = total.Neg(total)
			k.takings.Sub(k.takings, total)
			shelf(orders[name])
		case negative:
			k.refused[name] = "bad-quantity"
		case short:
			k.refused[name] = "out-of-stock"
		case total.Sign() == 0:
			k.refused[name] = "nothing-to-pay"
		case total.Cmp(big.NewInt(1_000_000)) > 0:
			k.refused[name] = "over-limit"
		default:
			k.completed[name] = total
			k.takings.Add(k.takings, total)
			shelf(orders[name])
			if c := customers[name]; c != "" {
				k.welcome[c] = true
			}
		}
	}
	for sku, n := range k.shelf { // what this test can say only if it never gets that far
		if n.Int64() < -2500 {
			t.Fatalf("%s runs out: who gets the last depends on who comes first", sku)
		}
	}
	return k
}

// check compares the books with what was added up.
func (k *bookkeeper) check(t *testing.T, b *shop.Balance, dir string) {
	t.Helper()
	if !b.Balanced || b.Lost != 0 || b.Double != 0 {
		t.Errorf("balanced %v, lost %d, double %d: %v", b.Balanced, b.Lost, b.Double, b.Remarks)
	}
	if b.Lines != k.lines || b.Unusable != 0 {
		t.Errorf("%d lines, %d unusable; want %d, 0", b.Lines, b.Unusable, k.lines)
	}
	if b.Placed != len(k.completed)+len(k.refused) || b.Completed != len(k.completed) || b.Refused != len(k.refused) || b.Cancelled != len(k.returned) {
		t.Errorf("placed %d, completed %d, refused %d, cancelled %d; want %d, %d, %d, %d", b.Placed, b.Completed, b.Refused, b.Cancelled,
			len(k.completed)+len(k.refused), len(k.completed), len(k.refused), len(k.returned))
	}
	if fmt.Sprint(int64(b.Money.Takings)) != k.takings.String() {
		t.Errorf("takings %d, want %v pence", b.Money.Takings, k.takings)
	}
	want := map[string]string{}
	for name, total := range k.completed {
		want["completed "+name] = total.String()
		want["charge "+name] = total.String()
		want["confirmation "+name] = ""
	}
	for name, code := range k.refused {
		want["refused "+name] = code
	}
	for name, total := range k.returned {
		want["cancelled "+name] = total.String()
		want["refund "+name] = total.String()
	}
	for customer := range k.welcome {
		want["welcome "+customer] = ""
	}
	for sku, n := range k.shelf {
		want["shelf "+sku] = new(big.Int).Add(n, big.NewInt(2500)).String()
	}
	read(t, dir, "ordering", `SELECT state || ' ' || id, CASE state WHEN 'refused' THEN code ELSE total END FROM orders`, want)
	read(t, dir, "payment", `SELECT kind || ' ' || order_id, amount FROM payments`, want)
	read(t, dir, "mail", `SELECT kind || ' ' || subject, '' FROM mails`, want)
	read(t, dir, "catalog", `SELECT 'shelf ' || sku, units FROM shelves WHERE units <> 2500`, want)
	for what, value := range want {
		if value != "2500" { // a shelf that was not touched may be missing
			t.Errorf("%s, %q, is missing", what, value)
		}
	}
}

// read strikes out of want what a database has.
func read(t *testing.T, dir, service, query string, want map[string]string) {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, service+".db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var what, value string
		if err := rows.Scan(&what, &value); err != nil {
			t.Fatal(err)
		}
		if v, ok := want[what]; !ok || v != value {
			t.Errorf("%s has %s, %q; want %q, %v", service, what, value, v, ok)
		}
		delete(want, what)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
}

const retailHeader = "InvoiceNo;StockCode;Description;Quantity;InvoiceDate;UnitPrice;CustomerID;Country\n"

// retail is a small file of the retail file's form, with all that it has:
// cancellations, losses, gifts, guests, duplicates, quotes, and an invoice of
// many lines.
func retail() string {
	var s strings.Builder
	s.WriteString(retailHeader)
	add := func(number, sku, text string, quantity, pence, day int, customer string) {
		price := fmt.Sprint(pence / 100)
		if pence%100 != 0 {
			price += strings.TrimSuffix(fmt.Sprintf(",%02d", pence%100), "0")
		}
		fmt.Fprintf(&s, "%s;%s;%s;%d;%d/12/2010 08:%02d;%s;%s;United Kingdom\n", number, sku, text, quantity, day, day+10, price, customer)
	}
	for i := range 40 {
		number, customer := fmt.Sprint(536_365+i), fmt.Sprint(17_850+i%7)
		if i%5 == 0 {
			customer = ""
		}
		for j := range 1 + i*7%11 {
			add(number, fmt.Sprintf("8512%d%c", (i+j)%10, 'A'+j%3), "WHITE HANGING HEART", 1+(i*j)%13, 5+(i*31+j*17)%700, 1+i/10, customer)
		}
		switch i % 8 {
		case 1:
			add("C"+number, "85123A", "", -2-i%3, 255, 1+i/10, customer)
			add("C"+number, "D", "Discount", -1, 2750, 1+i/10, customer)
		case 3:
			add("9"+number, "22139", "", 56, 0, 1+i/10, "")
		case 5:
			add("8"+number, "84952C", "damaged", -38, 0, 1+i/10, "")
		case 7:
			add("7"+number, "84077", `"RECORD FRAME 7"" SINGLE SIZE "`, 2_600, 21, 1+i/10, customer)
		}
	}
	for j := range 593 {
		add("537434", fmt.Sprint(20_000+j%250), "MANY", 1, 1+j%300, 4, "")
	}
	add("537500", "BIG", "OVER THE LIMIT", 1_001, 1_000, 5, "12345")
	add("537501", "EVEN", "AT THE LIMIT", 1_000, 1_000, 5, "12345")
	return s.String()
}

// The real file is not part of the repository: where DOVETAIL_ORDERS names it,
// it is replayed as well.
func TestBalance_equals_sums_computed_by_other_means(t *testing.T) {
	data := retail()
	killed := []string{"--kill-every", "300ms"}
	type given struct {
		sums string // the file in the form that addUp reads
		data string // the file that is replayed
		args []string
	}
	files := map[string]given{
		"semicolons":                 {data, data, nil},
		"commas, points, quotes":     {data, "\ufeff" + strings.ReplaceAll(rewrite(data, ",", true, false), "\n", "\r\n"), nil},
		"tabs, month first":          {data, rewrite(data, "\t", false, true), []string{"--dates", "mdy"}},
		"while processes are killed": {data, data, killed},
	}
	if path := os.Getenv("DOVETAIL_ORDERS"); path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		files["real file"] = given{string(b), string(b), nil}
		files["real file while processes are killed"] = given{string(b), string(b), killed}
	}
	for name, tt := range files {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			file := filepath.Join(dir, "orders.csv")
			if err := os.WriteFile(file, []byte(tt.data), 0o600); err != nil {
				t.Fatal(err)
			}
			b := balance(t, append(slices.Clone(tt.args), "--orders", file, "--dir", dir)...)
			addUp(t, tt.sums).check(t, b, dir)
			if killing := len(tt.args) > 0 && tt.args[0] == "--kill-every"; killing != (b.Kills > 0) {
				t.Errorf("%d processes were killed", b.Kills)
			}
		})
	}
}

// rewrite turns the file into one of another form: other separator, decimal
// points, columns the other way round, dates with the month first.
func rewrite(data, sep string, quote, monthFirst bool) string {
	var s strings.Builder
	for line := range strings.Lines(data) {
		f := strings.Split(strings.TrimSuffix(line, "\n"), ";")
		f[5] = strings.Replace(f[5], ",", ".", 1)
		if day, rest, ok := strings.Cut(f[4], "/12/"); ok && monthFirst {
			f[4] = "12/" + day + "/" + rest
		}
		for i, j := 0, len(f)-1; i < j; i, j = i+1, j-1 {
			f[i], f[j] = f[j], f[i]
		}
		for i := range f {
			if quote && !strings.HasPrefix(f[i], `"`) {
				f[i] = `"` + f[i] + `"`
			}
		}
		s.WriteString(strings.Join(f, sep) + "\n")
	}
	return s.String()
}
