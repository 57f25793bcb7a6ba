//go:build !linux

package bench

func resetPeakMemory() {}

// peakMemory is 0: it cannot be told here.
func peakMemory() float64 { return 0 }
