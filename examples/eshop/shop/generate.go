package shop

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"time"
)

// Generated returns the built-in set of orders: n invoices in the form of the
// file that Orders are read from, with cancellations, with orders that must be
// refused, and with lines that cannot be used. The same seed gives the same
// file.
func Generated(seed uint64, n int) Orders {
	g := generator{random: rand.New(rand.NewPCG(seed, 0)), at: time.Date(2024, 12, 1, 8, 26, 0, 0, time.UTC)}
	g.printf("InvoiceNo;StockCode;Description;Quantity;InvoiceDate;UnitPrice;CustomerID;Country")
	for i := range n {
		g.invoice(i)
	}
	return Orders{Name: fmt.Sprintf("%d built-in invoices, seed %d", n, seed), Size: int64(g.out.Len()), Data: &g.out}
}

type generator struct {
	random *rand.Rand
	out    bytes.Buffer
	at     time.Time
}

func (g *generator) printf(format string, args ...any) { fmt.Fprintf(&g.out, format+"\r\n", args...) }

func (g *generator) invoice(i int) {
	g.at = g.at.Add(time.Duration(1+g.random.IntN(20)) * time.Minute)
	number, customer := fmt.Sprint(100_001+i), fmt.Sprint(12_000+g.random.IntN(150))
	if g.random.IntN(8) == 0 {
		customer = "" // a guest
	}
	switch i % 40 {
	case 7, 23: // goods and money go back
		for range 1 + g.random.IntN(3) {
			g.line("C"+number, g.thing(), -1-g.random.IntN(4), customer)
		}
	case 11: // nothing to pay: payment refuses, and the reservation is released
		g.printf("%s;%s;;%d;%s;0;;Elsewhere", number, g.thing(), 1+g.random.IntN(20), g.date())
	case 19: // a loss in the warehouse is no order
		g.line(number, g.thing(), -5, "")
	case 29: // more than a shelf can ever hold
		g.line(number, g.thing(), 6_000, customer)
	case 33: // over the limit of one payment
		g.printf("%s;BOAT;A ROWING BOAT;10;%s;1.200,00;%s;Elsewhere", number, g.date(), customer)
	case 37: // one line is torn, and one has no price
		g.printf("%s;%s;TORN", number, g.thing())
		g.printf("%s;%s;NO PRICE;1;%s;;%s;Elsewhere", number, g.thing(), g.date(), customer)
		g.line(number, g.thing(), 2, customer)
	default:
		for range 1 + g.random.IntN(12) {
			g.line(number, g.thing(), 1+g.random.IntN(6), customer)
		}
	}
}

func (g *generator) thing() string { return fmt.Sprint(20_000 + g.random.IntN(300)) }

func (g *generator) date() string { return g.at.Format("2/1/2006 15:04") }

func (g *generator) line(number, sku string, quantity int, customer string) {
	price := 5 + g.random.IntN(2_000)
	g.printf("%s;%s;\"A THING CALLED \"\"%s\"\"\";%d;%s;%d,%02d;%s;Elsewhere", number, sku, sku, quantity, g.date(), price/100, price%100, customer)
}
