package invoice

import (
	"errors"
	"io"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// readAll returns all invoices and what was reported.
func readAll(t *testing.T, in io.Reader, opts Options) (*Reader, []Invoice, []Problem) {
	t.Helper()
	var problems []Problem
	opts.Unusable = func(p Problem) { problems = append(problems, p) }
	r, err := NewReader(in, opts)
	if err != nil {
		t.Fatal(err)
	}
	var all []Invoice
	for {
		inv, err := r.Next()
		if err == io.EOF {
			return r, all, problems
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, inv)
	}
}

const sample = `InvoiceNo;StockCode;Description;Quantity;InvoiceDate;UnitPrice;CustomerID;Country
536365;85123A;WHITE HANGING HEART T-LIGHT HOLDER;6;1/12/2010 08:26;2,55;17850;United Kingdom
536365;22041;"RECORD FRAME 7"" SINGLE SIZE ";48;1/12/2010 08:26;2,1;17850;United Kingdom
536414;22139;;56;2/12/2010 11:52;0;;United Kingdom
C536379;D;Discount;-1;13/12/2010 09:41;27,5;14527;United Kingdom
`

func want() []Invoice {
	at := func(day, hour, minute int) time.Time { return time.Date(2010, 12, day, hour, minute, 0, 0, time.UTC) }
	return []Invoice{
		{"536365", "17850", []Line{
			{2, "85123A", "WHITE HANGING HEART T-LIGHT HOLDER", 6, 255, at(1, 8, 26), "United Kingdom"},
			{3, "22041", `RECORD FRAME 7" SINGLE SIZE`, 48, 210, at(1, 8, 26), "United Kingdom"}}},
		{"536414", "", []Line{{4, "22139", "", 56, 0, at(2, 11, 52), "United Kingdom"}}},
		{"C536379", "14527", []Line{{5, "D", "Discount", -1, 2750, at(13, 9, 41), "United Kingdom"}}},
	}
}

func TestReader_reads_files_as_they_come(t *testing.T) {
	american := strings.NewReplacer("1/12/", "12/1/", "2/12/", "12/2/", "13/12/", "12/13/", ",", ".", ";", ",")
	iso := strings.NewReplacer("13/12/2010 ", "2010-12-13T", "1/12/2010 ", "2010-12-01T", "2/12/2010 ", "2010-12-02T")
	for name, tt := range map[string]struct {
		text  string
		dates DateOrder
	}{
		"semicolons":                {sample, DayFirst},
		"byte order mark":           {"\ufeff" + sample, DayFirst},
		"CRLF":                      {strings.ReplaceAll(sample, "\n", "\r\n"), DayFirst},
		"no end of the last line":   {strings.TrimSuffix(sample, "\n"), DayFirst},
		"tabs":                      {strings.ReplaceAll(sample, ";", "\t"), DayFirst},
		"bars and other names":      {strings.ReplaceAll(strings.Replace(sample, "InvoiceNo;StockCode", "invoice number;SKU", 1), ";", "|"), DayFirst},
		"commas, points, MM/DD":     {american.Replace(sample), MonthFirst},
		"dates that begin the year": {iso.Replace(sample), DayFirst},
	} {
		t.Run(name, func(t *testing.T) {
			for _, in := range []io.Reader{strings.NewReader(tt.text), iotest.OneByteReader(strings.NewReader(tt.text))} {
				r, got, problems := readAll(t, in, Options{})
				if len(problems) > 0 || !reflect.DeepEqual(got, want()) {
					t.Errorf("problems %v, read\n%+v\nwant\n%+v", problems, got, want())
				}
				if r.Format().Dates != tt.dates || r.Lines() != 4 {
					t.Errorf("%v, %d lines", r.Format(), r.Lines())
				}
			}
		})
	}
}

func TestReader_reports_what_it_cannot_use(t *testing.T) {
	const header = "InvoiceNo;StockCode;Quantity;UnitPrice;CustomerID;InvoiceDate\n"
	for name, tt := range map[string]struct{ line, want string }{
		"too few fields":      {"1;A;2", "3 fields"},
		"too many fields":     {"1;A;2;3;4;5;6", "7 fields"},
		"empty":               {"", "is empty"},
		"no invoice":          {";A;2;1,00;;", "InvoiceNo is blank"},
		"no stock code":       {"1; ;2;1,00;;", "StockCode is blank"},
		"long customer":       {"1;A;2;1,00;" + strings.Repeat("x", 65) + ";", "CustomerID is longer"},
		"odd characters":      {"1\x00;A;2;1,00;;", "InvoiceNo is longer than 64 bytes or has"},
		"Latin-1":             {"1;\xa3;2;1,00;;", "StockCode"},
		"no quantity":         {"1;A;;1,00;;", `Quantity "" is no number`},
		"quantity of nothing": {"1;A;0;1,00;;", "want a whole number"},
		"half a thing":        {"1;A;0,5;1,00;;", "want a whole number"},
		"too many things":     {"1;A;1000001;1,00;;", "within 1000000"},
		"no price":            {"1;A;1;;;", "is no number"},
		"negative price":      {"1;A;1;-1,00;;", "want 0 to"},
		"huge price":          {"1;A;1;99999999999999999999;;", "is no number"},
		"tenths of pence":     {"1;A;1;0,001;;", "more than two decimals"},
		"thousands or not":    {"1;A;1;1,234;;", "thousands or three decimals"},
		"not a number":        {"1;A;1;1e3;;", "is no number"},
		"no such day":         {"1;A;1;1;;30/2/2011 10:00", "is no date with the day first"},
		"no date":             {"1;A;1;1;;yesterday", "is no date"},
		"no such hour":        {"1;A;1;1;;1/2/2011 25:00", "time of day"},
		"other customer":      {"9;A;1;1;8;", `customer is "8", and "7" above`},
		"too long":            {"1;A;1;1;;" + strings.Repeat("x", MaxLine), "longer than 65536 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			r, got, problems := readAll(t, strings.NewReader(header+"9;A;1;1;7;\n"+tt.line+"\n9;B;1;1;7;\n"), Options{})
			if len(problems) != 1 || problems[0].Line != 3 || !strings.Contains(problems[0].Reason, tt.want) {
				t.Errorf("reported %v, want line 3 with %q", problems, tt.want)
			}
			if len(got) != 1 || len(got[0].Lines) != 2 || r.Lines() != 3 || r.Unusable() != 1 {
				t.Errorf("read %+v of %d lines, %d unusable", got, r.Lines(), r.Unusable())
			}
		})
	}
}

func TestReader_takes_the_lines_of_an_invoice_together_only(t *testing.T) {
	_, got, problems := readAll(t, strings.NewReader("invoice,sku,qty,price\n1,A,1,1\n2,A,1,1\n1,B,1,1\n2,B,1,1\n3,A,1,1\n2,C,1,1\n"), Options{})
	if len(got) != 3 || len(got[1].Lines) != 2 || len(problems) != 2 || problems[0].Line != 4 || problems[1].Line != 7 {
		t.Errorf("read %+v, reported %v", got, problems)
	}
	_, got, problems = readAll(t, strings.NewReader("invoice,sku,qty,price\n"+strings.Repeat("1,A,1,1\n", MaxLines+2)), Options{})
	if len(got) != 1 || len(got[0].Lines) != MaxLines || len(problems) != 2 {
		t.Errorf("read %d lines of %d invoices, reported %v", len(got[0].Lines), len(got), problems)
	}
}

func TestReader_says_why_it_cannot_begin(t *testing.T) {
	for name, tt := range map[string]struct {
		text, want string
		opts       Options
	}{
		"empty":           {"", "empty", Options{}},
		"only a mark":     {"\ufeff", "empty", Options{}},
		"no header":       {"536365;85123A;6;2,55\n", "names no column", Options{}},
		"missing columns": {"InvoiceNo;Quantity\n", "StockCode, UnitPrice", Options{}},
		"UTF-16":          {"\xff\xfeI\x00", "UTF-16", Options{}},
		"date order":      {sample, "want dmy or mdy", Options{Dates: "ymd"}},
	} {
		if _, err := NewReader(strings.NewReader(tt.text), tt.opts); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want something about %q", name, err, tt.want)
		}
	}
	torn := errors.New("torn off")
	if _, err := NewReader(iotest.ErrReader(torn), Options{}); !errors.Is(err, torn) {
		t.Errorf("got %v, want %v", err, torn)
	}
}

func TestReader_returns_the_errors_of_the_file(t *testing.T) {
	torn := errors.New("torn off")
	r, err := NewReader(io.MultiReader(strings.NewReader(sample+strings.Repeat(" ", MaxLine)+"\n"), iotest.ErrReader(torn)), Options{})
	for err == nil {
		_, err = r.Next()
	}
	if !errors.Is(err, torn) {
		t.Errorf("got %v, want %v", err, torn)
	}
}

func TestHundredths_understands_both_decimal_marks(t *testing.T) {
	for text, want := range map[string]int64{
		"2,55": 255, "2.55": 255, "2,5": 250, "2": 200, "0": 0, "0,00": 0, "-6": -600, " 7 ": 700, "£3.10": 310,
		"1.234,50": 123450, "1,234.50": 123450, "1,234,567": 123456700, ",5": 50, "5,": 500, "0,500": 50, "6.00": 600,
	} {
		if got, err := hundredths(text); err != nil || got != want {
			t.Errorf("%q is %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-", "--1", "2,500", "1-", "1.2.3", "1,2,3", "12,34,567", ",", ".", "1.234.56,7", "+1", "１", "1 000", "0x1", "1_0"} {
		if got, err := hundredths(text); err == nil {
			t.Errorf("%q is %d, want an error", text, got)
		}
	}
}
