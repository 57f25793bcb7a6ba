package shop

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
)

// IsTerminal reports whether a person looks at f.
func IsTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0 && os.Getenv("TERM") != "dumb"
}

// A Display shows progress: on a terminal as a line that is written over, else
// as a line every few seconds. It is safe for concurrent use.
type Display struct {
	live  bool
	color bool

	mu    sync.Mutex
	w     io.Writer
	last  time.Duration
	dirty bool // a line stands that must be written over
}

// NewDisplay returns a display on f. It is in colour on a terminal, unless
// NO_COLOR is set (https://no-color.org).
func NewDisplay(f *os.File) *Display {
	live := IsTerminal(f)
	return &Display{w: f, live: live, color: live && os.Getenv("NO_COLOR") == ""}
}

// lineEvery is how often a line is written where nobody looks.
const lineEvery = 2 * time.Second

// Show shows p.
func (d *Display) Show(p Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.live {
		d.dirty = true
		// Without wrapping, a narrow terminal cuts the line off rather than scroll.
		fmt.Fprintf(d.w, "\r\x1b[K\x1b[?7l%s %s\x1b[?7h", d.bar(p), line(p))
		return
	}
	if p.Elapsed-d.last >= lineEvery {
		d.last = p.Elapsed
		fmt.Fprintln(d.w, line(p))
	}
}

// Note writes a line that stays.
func (d *Display) Note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clear()
	fmt.Fprintf(d.w, format+"\n", args...)
}

// Clear takes the progress away.
func (d *Display) Clear() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.clear()
}

func (d *Display) clear() {
	if d.dirty {
		fmt.Fprint(d.w, "\r\x1b[K")
		d.dirty = false
	}
}

func (d *Display) bar(p Progress) string {
	const width = 24
	if p.Size <= 0 {
		return ""
	}
	full := min(width, int(p.Read*width/p.Size))
	done, rest := strings.Repeat("█", full), strings.Repeat("░", width-full)
	if d.color {
		done, rest = "\x1b[32m"+done, "\x1b[90m"+rest+"\x1b[0m"
	}
	return done + rest
}

func line(p Progress) string {
	s := fmt.Sprintf("%d lines · %d completed · %d refused · %d cancelled", p.Lines, p.Completed, p.Refused, p.Cancelled)
	if p.InFlight > 0 {
		s += fmt.Sprintf(" · %d in flight", p.InFlight)
	}
	if p.Kills > 0 {
		s += fmt.Sprintf(" · %d killed", p.Kills)
	}
	if p.Settling {
		s += " · settling"
	}
	return s + fmt.Sprintf(" · %.0f s", p.Elapsed.Seconds())
}
