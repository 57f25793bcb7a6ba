package invoice

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// A Format is how a file is written.
type Format struct {
	Separator rune
	Dates     DateOrder
	// Proven says that some date shows the order. Otherwise files with
	// semicolons, which are written where the comma is the decimal mark, are
	// taken to have the day first, and others the month.
	Proven bool
}

// String is the format in words.
func (f Format) String() string {
	order := "day first"
	if f.Dates == MonthFirst {
		order = "month first"
	}
	if !f.Proven {
		order += " (assumed)"
	}
	names := map[rune]string{';': "semicolons", ',': "commas", '\t': "tabs", '|': "bars"}
	return fmt.Sprintf("separated by %s, dates with the %s", names[f.Separator], order)
}

// The columns that are known, by the names they are given.
const (
	colInvoice = iota
	colSKU
	colQuantity
	colPrice
	colDescription
	colDate
	colCustomer
	colCountry
	numColumns
)

const required = colPrice + 1 // the columns before it must be there

var columnNames = map[string]int{
	"invoiceno": colInvoice, "invoice": colInvoice, "invoicenumber": colInvoice, "order": colInvoice, "orderid": colInvoice,
	"stockcode": colSKU, "sku": colSKU, "article": colSKU, "product": colSKU, "productid": colSKU,
	"quantity": colQuantity, "qty": colQuantity,
	"unitprice": colPrice, "price": colPrice,
	"description": colDescription,
	"invoicedate": colDate, "date": colDate,
	"customerid": colCustomer, "customer": colCustomer,
	"country": colCountry,
}

var columnTitles = [numColumns]string{"InvoiceNo", "StockCode", "Quantity", "UnitPrice", "Description", "InvoiceDate", "CustomerID", "Country"}

// columns says where in a line what is found, -1 for nowhere.
type columns [numColumns]int

// parseHeader finds separator and columns.
func parseHeader(line string) (sep rune, cols columns, width int, err error) {
	best := -1
	for _, s := range ";,\t|" {
		c, n, w := columnsOf(split(nil, line, byte(s)))
		if n > best {
			sep, cols, width, best = s, c, w, n
		}
	}
	var missing []string
	for i := range required {
		if cols[i] < 0 {
			missing = append(missing, columnTitles[i])
		}
	}
	if len(missing) > 0 {
		return sep, cols, width, fmt.Errorf("first line names no column %s: want a header such as %q, separated by semicolons, commas, tabs or bars",
			strings.Join(missing, ", "), strings.Join(columnTitles[:], ";"))
	}
	return sep, cols, width, nil
}

func columnsOf(names []string) (cols columns, found, width int) {
	for i := range cols {
		cols[i] = -1
	}
	for at, name := range names {
		plain := strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
				return r
			}
			return -1
		}, strings.ToLower(name))
		if c, ok := columnNames[plain]; ok && cols[c] < 0 {
			cols[c] = at
			found++
		}
	}
	return cols, found, len(names)
}

var errUTF16 = errors.New("file is UTF-16: save it as UTF-8")

// withoutMark cuts off the byte order mark.
func withoutMark(begin []byte) (skip int, err error) {
	switch {
	case bytes.HasPrefix(begin, []byte("\xef\xbb\xbf")):
		return 3, nil
	case bytes.HasPrefix(begin, []byte("\xff\xfe")), bytes.HasPrefix(begin, []byte("\xfe\xff")):
		return 0, errUTF16
	}
	return 0, nil
}

// proof looks for a date in a line that can be read one way only.
func (c *columns) proof(fields []string) (DateOrder, bool) {
	at := c[colDate]
	if at < 0 || at >= len(fields) {
		return DateAuto, false
	}
	n, _, _ := strings.Cut(strings.TrimSpace(fields[at]), " ")
	parts, ok := dateParts(n)
	switch {
	case !ok || parts[0] > 31:
		return DateAuto, false
	case parts[0] > 12 && parts[1] <= 12:
		return DayFirst, true
	case parts[1] > 12 && parts[0] <= 12:
		return MonthFirst, true
	}
	return DateAuto, false
}
