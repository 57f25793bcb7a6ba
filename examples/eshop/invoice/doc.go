// Package invoice reads invoice files: a line for each position, the lines of an
// invoice one after the other, under a line that names the columns.
//
//	InvoiceNo;StockCode;Description;Quantity;InvoiceDate;UnitPrice;CustomerID;Country
//	536365;85123A;WHITE HANGING HEART T-LIGHT HOLDER;6;1/12/2010 08:26;2,55;17850;United Kingdom
//
// It takes files as they come: with a byte order mark or without; separated by
// semicolons, commas, tabs or bars; with decimal commas or points; with the day
// or the month first; with columns in any order, quoted or not; with LF or CRLF.
// What it cannot use it reports, line by line, with the reason: nothing is
// dropped in silence. It reads as a stream, and what it keeps in memory is
// bounded: lines, lines of one invoice, and the number of invoices.
//
// A line break within quotes is not understood: each line stands for itself, so
// that a stray quote costs one line and not the rest of the file.
package invoice

import (
	"fmt"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/examples/eshop/money"
)

// An Invoice is what one customer bought at once, or gave back.
type Invoice struct {
	Number   string
	Customer string // empty if unknown
	Lines    []Line // at least one
}

// Cancels reports whether the invoice takes back goods that were sold: its
// number begins with C.
func (i Invoice) Cancels() bool { return strings.HasPrefix(i.Number, "C") }

// A Line is one position.
type Line struct {
	Number      int // in the file, the header being 1
	SKU         string
	Description string
	Quantity    int64 // below zero for what is given back; never 0
	Price       money.Pence
	Time        time.Time // zero if the file does not say
	Country     string
}

// A Problem is a line that could not be used.
type Problem struct {
	Line   int // in the file, the header being 1
	Reason string
}

// String is the problem in one line.
func (p Problem) String() string { return fmt.Sprintf("line %d: %s", p.Line, p.Reason) }

// DateOrder says how dates like 3/4/2011 are read.
type DateOrder string

// The date orders. Dates that begin with a year are understood in any case.
const (
	DateAuto   DateOrder = ""    // as the file's beginning proves; else by its country: see Format
	DayFirst   DateOrder = "dmy" // 3 April
	MonthFirst DateOrder = "mdy" // March 4
)

// Limits on what is read.
const (
	MaxLine     = 64 << 10  // bytes of a line
	MaxLines    = 5_000     // lines of one invoice
	MaxInvoices = 2_000_000 // invoices of a file, whose numbers are remembered
	maxText     = 64        // bytes of an invoice number, a stock code or a customer
	maxQuantity = 1_000_000
	maxPrice    = 1_000_000_00
)
