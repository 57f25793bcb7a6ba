package bench

import (
	"bytes"
	"os"
	"strconv"
)

// resetPeakMemory begins a new measurement of peakMemory: proc(5), clear_refs.
func resetPeakMemory() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) }

// peakMemory is the most that this process had in memory, in bytes; 0 where
// that cannot be told.
func peakMemory() float64 {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range bytes.Lines(text) {
		if rest, ok := bytes.CutPrefix(line, []byte("VmHWM:")); ok {
			kib, _, _ := bytes.Cut(bytes.TrimSpace(rest), []byte(" "))
			n, err := strconv.ParseFloat(string(kib), 64)
			if err != nil {
				return 0
			}
			return n * 1024
		}
	}
	return 0
}
