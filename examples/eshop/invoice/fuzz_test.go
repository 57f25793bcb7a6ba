package invoice

import (
	"io"
	"strings"
	"testing"
)

// FuzzReader: whatever the file is, every line is used or reported, and what is
// used is within its limits.
func FuzzReader(f *testing.F) {
	f.Add(sample)
	f.Add("\ufeffinvoice,sku,qty,price,date\r\n1,\"A,\"\"\",1,\"1,234.50\",12/31/99 3:04 PM\r\n1,B\r\n\r\n")
	f.Add("price\tqty\tsku\tinvoice\n1.234,5\t-1\tA\tC1\n\"\t1\tA\tC1\n2\t1\tA\tC2\n1\t1\tA\tC1")
	f.Fuzz(func(t *testing.T, text string) {
		problems, last := 0, 1
		r, err := NewReader(strings.NewReader(text), Options{Unusable: func(p Problem) {
			if p.Line <= 1 || p.Reason == "" {
				t.Errorf("reported %v", p)
			}
			problems++
		}})
		if err != nil {
			return
		}
		used, seen := 0, map[string]bool{}
		for {
			inv, err := r.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if inv.Number == "" || seen[inv.Number] || len(inv.Lines) == 0 || len(inv.Lines) > MaxLines {
				t.Errorf("invoice %q, seen %v, of %d lines", inv.Number, seen[inv.Number], len(inv.Lines))
			}
			seen[inv.Number] = true
			for _, l := range inv.Lines {
				if l.Number <= last || l.SKU == "" || l.Quantity == 0 || l.Price < 0 || l.Price > maxPrice {
					t.Errorf("line %+v after line %d", l, last)
				}
				last = l.Number
				used++
			}
		}
		if r.Lines() != used+problems || r.Unusable() != problems {
			t.Errorf("%d lines, of which %d used, %d reported and %d counted as unusable", r.Lines(), used, problems, r.Unusable())
		}
		if n := strings.Count(text, "\n"); r.Lines() > n {
			t.Errorf("%d lines below the header of %d line ends", r.Lines(), n)
		}
	})
}
