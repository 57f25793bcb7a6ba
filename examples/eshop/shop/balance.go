package shop

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/dovetail-go/dovetail/examples/eshop/money"
)

// A Balance is what came of a replay. All of it is taken from the databases of
// the services, and compared with what the file says.
type Balance struct {
	Orders string `json:"orders"` // name of the file
	Format string `json:"format"` // how it was read

	Lines      int        `json:"lines"`    // of the file, the header left out
	Unusable   int        `json:"unusable"` // of them, reported one by one
	LineCounts LineCounts `json:"line_counts"`

	Placed       int            `json:"placed"`    // orders
	Completed    int            `json:"completed"` // of them
	Refused      int            `json:"refused"`   // of them
	RefusedFor   map[string]int `json:"refused_for"`
	Cancelled    int            `json:"cancelled"`     // goods and money returned
	NotCancelled int            `json:"not_cancelled"` // cancellations that were refused
	Unanswered   int            `json:"unanswered"`    // invoices; want 0

	Stock Stock `json:"stock"`
	Money Money `json:"money"`

	Sent        int64 `json:"sent"`
	Handled     int64 `json:"handled"`
	Redelivered int64 `json:"redelivered"`
	Retried     int64 `json:"retried"`
	Dead        int64 `json:"dead"`
	AskedAgain  int64 `json:"asked_again"`
	Kills       int   `json:"kills"`
	// AtLeast says that the counts of messages are lower bounds: processes
	// that were killed took their last counts with them.
	AtLeast bool `json:"at_least"`

	Caches Caches `json:"caches"`

	Lost    int64    `json:"lost"`    // effects that should be there
	Double  int64    `json:"double"`  // effects that should not, or not as often
	Remarks []string `json:"remarks"` // what does not balance, the first few

	Seconds  float64 `json:"seconds"`
	Balanced bool    `json:"balanced"`
}

// LineCounts say what became of each line of the file.
type LineCounts struct {
	Read       int `json:"read"`
	Unusable   int `json:"unusable"`
	Completed  int `json:"completed"`
	Refused    int `json:"refused"`
	Cancelled  int `json:"cancelled"`
	Unanswered int `json:"unanswered"`
}

// Stock is in units. OnShelves is what the catalog has, Expected what it must
// have by the file.
type Stock struct {
	SKUs      int   `json:"skus"`
	Sold      int64 `json:"sold"`
	Returned  int64 `json:"returned"`
	Expected  int64 `json:"expected"`
	OnShelves int64 `json:"on_shelves"`
}

// Money is in pence. Takings is what payment has, Expected what it must have by
// the file.
type Money struct {
	Charged  money.Pence `json:"charged"`
	Refunded money.Pence `json:"refunded"`
	Expected money.Pence `json:"expected"`
	Takings  money.Pence `json:"takings"`
}

// Caches are those of the catalog's instances.
type Caches struct {
	Instances int  `json:"instances"`
	Agree     bool `json:"agree"` // with each other and with the database
}

// draw draws up the balance.
func (r *replay) draw(ctx context.Context, f finding, caches Caches) *Balance {
	counts, kills := r.fleet.counts(ctx)
	own := r.front.svc.Stats()
	counts.add(Counts{Sent: own.Sent, Handled: own.Handled, Redelivered: own.Redelivered, Retried: own.Retried, Dead: own.Dead})
	l := r.want
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := l.lines
	lines.Read, lines.Unusable = r.in.Lines(), r.in.Unusable()
	b := &Balance{
		Orders: r.cfg.Orders.Name, Format: r.in.Format().String(),
		Lines: lines.Read, Unusable: lines.Unusable, LineCounts: lines,
		Placed: l.placed, Completed: l.completed, Refused: l.refused, RefusedFor: maps.Clone(l.codes),
		Cancelled: l.cancelled, NotCancelled: l.notCancelled, Unanswered: l.unanswered,
		Stock: Stock{SKUs: f.shelves, Sold: l.units, Returned: l.returned, Expected: l.stock(f.shelves), OnShelves: f.stock},
		Money: Money{Charged: l.charged, Refunded: l.refunded, Expected: l.takings, Takings: f.takings},
		Sent:  counts.Sent, Handled: counts.Handled, Redelivered: counts.Redelivered, Retried: counts.Retried, Dead: counts.Dead,
		AskedAgain: r.front.again.Load(), Kills: kills, AtLeast: kills > 0,
		Caches: caches, Lost: f.lost, Double: f.double, Remarks: append([]string{}, f.remarks...),
		Seconds: time.Since(r.started).Round(time.Millisecond).Seconds(),
	}
	for _, err := range r.front.problems {
		b.Remarks = append(b.Remarks, err.Error())
	}
	if !caches.Agree {
		b.Remarks = append(b.Remarks, fmt.Sprintf("the caches of %d instances of the catalog, of %d, do not all have what the database has", caches.Instances, r.cfg.Catalogs))
	}
	if n := lines.Unusable + lines.Completed + lines.Refused + lines.Cancelled + lines.Unanswered; n != lines.Read {
		b.Remarks = append(b.Remarks, fmt.Sprintf("%d lines were read, and %d are accounted for", lines.Read, n))
	}
	b.Balanced = b.Lost == 0 && b.Double == 0 && len(b.Remarks) == 0
	return b
}

// Print writes the balance for people.
func (b *Balance) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, value any, note string, args ...any) {
		fmt.Fprintf(t, "%s\t%v\t%s\n", name, value, fmt.Sprintf(note, args...))
	}
	atLeast := ""
	if b.AtLeast {
		atLeast = "at least: killed processes took their last counts along"
	}
	row("lines", b.Lines, "%d in completed orders, %d in refused ones, %d in cancellations, %d unusable",
		b.LineCounts.Completed, b.LineCounts.Refused, b.LineCounts.Cancelled, b.Unusable)
	row("orders placed", b.Placed, "")
	row("  completed", b.Completed, "")
	row("  refused", b.Refused, "%s", reasons(b.RefusedFor))
	row("cancellations", b.Cancelled, "%s", unless(b.NotCancelled == 0, fmt.Sprintf("and %d refused", b.NotCancelled)))
	row("stock", b.Stock.OnShelves, "%d sold, %d returned; by the file %d", b.Stock.Sold, b.Stock.Returned, b.Stock.Expected)
	row("money", b.Money.Takings, "%v charged, %v refunded; by the file %v", b.Money.Charged, b.Money.Refunded, b.Money.Expected)
	row("messages sent", b.Sent, "%s", atLeast)
	row("  handled", b.Handled, "")
	row("  redelivered", b.Redelivered, "")
	row("caches", b.Caches.Instances, "%s", map[bool]string{true: "agree with the database", false: "disagree"}[b.Caches.Agree])
	if b.Kills > 0 {
		row("processes killed", b.Kills, "")
	}
	row("lost", b.Lost, "")
	row("double", b.Double, "%s", unless(b.Balanced, "does not balance"))
	if err := t.Flush(); err != nil {
		return err
	}
	verdict := "It balances."
	if !b.Balanced {
		verdict = "It does not balance:\n  " + strings.Join(b.Remarks, "\n  ")
	}
	_, err := fmt.Fprintf(w, "\n%s (%s, %.1f s)\n", verdict, b.Orders, b.Seconds)
	return err
}

func unless(not bool, text string) string {
	if not {
		return ""
	}
	return text
}

func reasons(codes map[string]int) string {
	var parts []string
	for _, code := range slices.Sorted(maps.Keys(codes)) {
		parts = append(parts, fmt.Sprintf("%d %s", codes[code], code))
	}
	return strings.Join(parts, ", ")
}
