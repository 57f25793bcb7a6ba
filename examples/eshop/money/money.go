// Package money counts in pence, so that nothing is ever rounded.
package money

import "strconv"

// Pence is an amount of money.
type Pence int64

// String writes p in pounds, as in "-1,234.50".
func (p Pence) String() string {
	sign, n := "", uint64(p)
	if p < 0 {
		sign, n = "-", -n
	}
	pounds := strconv.FormatUint(n/100, 10)
	for i := len(pounds) - 3; i > 0; i -= 3 {
		pounds = pounds[:i] + "," + pounds[i:]
	}
	cents := strconv.FormatUint(100+n%100, 10)
	return sign + pounds + "." + cents[1:]
}
