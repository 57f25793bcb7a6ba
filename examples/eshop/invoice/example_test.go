package invoice_test

import (
	"fmt"
	"io"
	"strings"

	"github.com/dovetail-go/dovetail/examples/eshop/invoice"
)

func ExampleReader() {
	const file = `InvoiceNo;StockCode;Quantity;UnitPrice;InvoiceDate
536365;85123A;6;2,55;1/12/2010 08:26
536365;71053;six;3,39;1/12/2010 08:26
C536379;D;-1;27,50;13/12/2010 09:41
`
	in, err := invoice.NewReader(strings.NewReader(file), invoice.Options{
		Unusable: func(p invoice.Problem) { fmt.Println("unusable", p) },
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(in.Format())
	for {
		inv, err := in.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			fmt.Println(err)
			return
		}
		for _, l := range inv.Lines {
			fmt.Println(inv.Number, l.Quantity, "of", l.SKU, "for", l.Price, "on", l.Time.Format("2 January 2006"))
		}
	}
	fmt.Println(in.Lines(), "lines,", in.Unusable(), "unusable")
	// Output:
	// separated by semicolons, dates with the day first
	// unusable line 3: Quantity "six" is no number
	// 536365 6 of 85123A for 2.55 on 1 December 2010
	// C536379 -1 of D for 27.50 on 13 December 2010
	// 3 lines, 1 unusable
}
