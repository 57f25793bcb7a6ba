package money

import (
	"math"
	"testing"
)

func TestPence_is_written_in_pounds(t *testing.T) {
	for p, want := range map[Pence]string{
		0: "0.00", 5: "0.05", -5: "-0.05", 123: "1.23", 100_000: "1,000.00", -123_456_789: "-1,234,567.89",
		math.MaxInt64: "92,233,720,368,547,758.07", math.MinInt64: "-92,233,720,368,547,758.08",
	} {
		if got := p.String(); got != want {
			t.Errorf("%d is %s, want %s", int64(p), got, want)
		}
	}
}
