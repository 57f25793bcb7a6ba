package invoice

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/dovetail-go/dovetail/examples/eshop/money"
)

// Options of a reader. The zero value is the default.
type Options struct {
	// Dates says how dates are read; default: as the file shows.
	Dates DateOrder

	// Unusable is told of each line that could not be used, in order. Default:
	// they are only counted.
	Unusable func(Problem)
}

// A Reader reads invoices from a file. It is used by one goroutine.
type Reader struct {
	in     *bufio.Reader
	opts   Options
	format Format
	cols   columns
	width  int

	line     int // number of the last line read
	lines    int // below the header
	unusable int
	fields   []string
	ahead    *Line  // belongs to the next invoice
	next     string // its number
	customer string
	seen     map[string]struct{}
}

// NewReader reads the header. It looks at the first 64 KiB to see how dates are
// written.
func NewReader(r io.Reader, opts Options) (*Reader, error) {
	switch opts.Dates {
	case DateAuto, DayFirst, MonthFirst:
	default:
		return nil, fmt.Errorf("date order %q: want %s or %s", opts.Dates, DayFirst, MonthFirst)
	}
	x := &Reader{in: bufio.NewReaderSize(r, MaxLine), opts: opts, seen: map[string]struct{}{}}
	begin, err := x.in.Peek(MaxLine)
	if err != nil && err != io.EOF {
		return nil, err
	}
	skip, err := withoutMark(begin)
	if err != nil {
		return nil, err
	}
	if _, err := x.in.Discard(skip); err != nil {
		return nil, err
	}
	sample := string(begin[skip:])
	header, err := x.readLine()
	switch {
	case err == io.EOF:
		return nil, errors.New("file is empty")
	case err != nil:
		return nil, fmt.Errorf("first line: %w", err)
	}
	sep, cols, width, err := parseHeader(header)
	if err != nil {
		return nil, err
	}
	x.cols, x.width = cols, width
	x.format = Format{Separator: sep, Dates: opts.Dates, Proven: opts.Dates != DateAuto}
	if !x.format.Proven {
		x.sniff(sample)
	}
	return x, nil
}

// sniff decides on the order of dates.
func (x *Reader) sniff(sample string) {
	for line := range strings.Lines(sample) {
		x.fields = split(x.fields[:0], strings.TrimRight(line, "\r\n"), byte(x.format.Separator))
		if order, ok := x.cols.proof(x.fields); ok {
			x.format.Dates, x.format.Proven = order, true
			return
		}
	}
	x.format.Dates = MonthFirst
	if x.format.Separator == ';' {
		x.format.Dates = DayFirst
	}
}

// Format is how the file is written.
func (x *Reader) Format() Format { return x.format }

// Lines is how many lines were read so far, without the header; Unusable, how
// many of them could not be used.
func (x *Reader) Lines() int    { return x.lines }
func (x *Reader) Unusable() int { return x.unusable }

// Next returns the next invoice, and io.EOF after the last. Any other error is
// that of the file.
func (x *Reader) Next() (Invoice, error) {
	var inv Invoice
	if x.ahead != nil {
		x.begin(&inv, *x.ahead)
		x.ahead = nil
	}
	for {
		number, customer, l, err := x.readUsable()
		if err == io.EOF && len(inv.Lines) > 0 {
			return inv, nil
		}
		if err != nil {
			return Invoice{}, err
		}
		switch _, met := x.seen[number]; {
		case number == inv.Number && len(inv.Lines) == MaxLines:
			x.report(l.Number, fmt.Sprintf("invoice %s has more than %d lines", number, MaxLines))
		case number == inv.Number && customer != inv.Customer:
			x.report(l.Number, fmt.Sprintf("customer is %q, and %q above in invoice %s", customer, inv.Customer, number))
		case number == inv.Number:
			inv.Lines = append(inv.Lines, l)
		case met:
			x.report(l.Number, fmt.Sprintf("invoice %s has ended above: the lines of an invoice must follow each other", number))
		case len(x.seen) >= MaxInvoices:
			return Invoice{}, fmt.Errorf("line %d: more than %d invoices: split the file", l.Number, MaxInvoices)
		default:
			x.seen[number] = struct{}{}
			x.next, x.customer = number, customer
			if len(inv.Lines) > 0 {
				x.ahead = &l
				return inv, nil
			}
			x.begin(&inv, l)
		}
	}
}

func (x *Reader) begin(inv *Invoice, l Line) {
	*inv = Invoice{Number: x.next, Customer: x.customer, Lines: []Line{l}}
}

func (x *Reader) report(line int, reason string) {
	x.unusable++
	if x.opts.Unusable != nil {
		x.opts.Unusable(Problem{line, reason})
	}
}

// readUsable returns the next line that can be used, and reports those before.
func (x *Reader) readUsable() (number, customer string, l Line, err error) {
	for {
		text, err := x.readLine()
		if err == io.EOF {
			return "", "", l, err
		}
		x.lines++
		if err == nil {
			number, customer, l, err = x.parse(text)
		}
		var bad *lineError
		switch {
		case err == nil:
			l.Number = x.line
			return number, customer, l, nil
		case errors.As(err, &bad):
			x.report(x.line, bad.reason)
		default:
			return "", "", l, fmt.Errorf("line %d: %w", x.line, err)
		}
	}
}

// A lineError makes one line unusable.
type lineError struct{ reason string }

func (e *lineError) Error() string { return e.reason }

func bad(format string, args ...any) error { return &lineError{fmt.Sprintf(format, args...)} }

// readLine returns the next line without its end.
func (x *Reader) readLine() (string, error) {
	b, err := x.in.ReadSlice('\n')
	if err == io.EOF && len(b) == 0 {
		return "", err
	}
	x.line++
	if err == bufio.ErrBufferFull {
		for err == bufio.ErrBufferFull {
			_, err = x.in.ReadSlice('\n')
		}
		if err == nil || err == io.EOF {
			err = bad("is longer than %d bytes", MaxLine)
		}
		return "", err
	}
	if err != nil && err != io.EOF {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r"), nil
}

// parse reads a line.
func (x *Reader) parse(text string) (number, customer string, l Line, err error) {
	if strings.TrimSpace(text) == "" {
		return "", "", l, bad("is empty")
	}
	x.fields = split(x.fields[:0], text, byte(x.format.Separator))
	if len(x.fields) != x.width {
		return "", "", l, bad("has %d fields, and the header %d", len(x.fields), x.width)
	}
	field := func(c int) string {
		if x.cols[c] < 0 {
			return ""
		}
		return strings.TrimSpace(strings.ToValidUTF8(x.fields[x.cols[c]], "�"))
	}
	number, customer, l.SKU = field(colInvoice), field(colCustomer), field(colSKU)
	l.Description, l.Country = field(colDescription), field(colCountry)
	for _, c := range []int{colInvoice, colSKU, colCustomer} {
		switch v := field(c); {
		case v == "" && c < required:
			return "", "", l, bad("%s is blank", columnTitles[c])
		case len(v) > maxText || strings.ContainsFunc(v, unicode.IsControl) || strings.ContainsRune(v, utf8.RuneError):
			return "", "", l, bad("%s is longer than %d bytes or has characters that do not belong there", columnTitles[c], maxText)
		}
	}
	quantity, err := hundredths(field(colQuantity))
	switch {
	case err != nil:
		return "", "", l, bad("%s %q %v", columnTitles[colQuantity], field(colQuantity), err)
	case quantity == 0 || quantity%100 != 0 || quantity > maxQuantity*100 || quantity < -maxQuantity*100:
		return "", "", l, bad("%s %q: want a whole number, not 0, within %d", columnTitles[colQuantity], field(colQuantity), maxQuantity)
	}
	price, err := hundredths(field(colPrice))
	switch {
	case err != nil:
		return "", "", l, bad("%s %q %v", columnTitles[colPrice], field(colPrice), err)
	case price < 0 || price > maxPrice:
		return "", "", l, bad("%s %q: want 0 to %v", columnTitles[colPrice], field(colPrice), money.Pence(maxPrice))
	}
	l.Quantity, l.Price = quantity/100, money.Pence(price)
	if date := field(colDate); date != "" {
		if l.Time, err = parseTime(date, x.format.Dates); err != nil {
			return "", "", l, bad("%s %q %v", columnTitles[colDate], date, err)
		}
	}
	return number, customer, l, nil
}
