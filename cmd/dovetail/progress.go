package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// progress is a line at the terminal that says how far something is.
type progress struct {
	w     io.Writer
	last  time.Time
	shown bool
}

// progress returns one that shows nothing where nobody looks.
func (a *app) progress() *progress {
	if !terminal(a.err) || os.Getenv("TERM") == "dumb" {
		return &progress{}
	}
	return &progress{w: bare(a.err)}
}

func (p *progress) show(what string, n, of int) {
	if of > 1 {
		p.text(fmt.Sprintf("%s %s %d of %d", bar(n, of), what, n, of), n == of)
	}
}

// text shows a line, ten times a second at most unless it must.
func (p *progress) text(line string, must bool) {
	if p.w == nil || !must && time.Since(p.last) < 100*time.Millisecond {
		return
	}
	p.last, p.shown = time.Now(), true
	fmt.Fprintf(p.w, "\r\x1b[K%s", clean(line))
}

func (p *progress) end() {
	if p.shown {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
	p.shown = false
}

func bar(n, of int) string {
	const width = 24
	full := min(width, width*n/max(1, of))
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", width-full) + "]"
}
