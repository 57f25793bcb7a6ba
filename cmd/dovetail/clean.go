package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/dovetail-go/dovetail/driver"
)

// What came from outside is printed cleaned, in every format: in tables and texts
// by clean and cleanLines, in JSON and YAML by escapes, which lose nothing. A
// cleanWriter stands behind all of them.

// clean makes text from elsewhere safe for a terminal and for one cell.
func clean(s string) string { return driver.Printable(s) }

// cleanLines is clean of each line, for what has several, like a stack.
func cleanLines(s string) string {
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		lines[i] = clean(strings.ReplaceAll(strings.TrimSuffix(l, "\r"), "\t", "    "))
	}
	return strings.Join(lines, "\n")
}

// escaped writes what is no line end and not printable as \u escapes, in a text of
// JSON or YAML, which has such characters within quotes only.
func escaped(text []byte) []byte {
	var b strings.Builder
	from := 0
	for i := 0; i < len(text); {
		r, n := utf8.DecodeRune(text[i:])
		if r != '\n' && (driver.Unprintable(r) || r == utf8.RuneError && n == 1) {
			b.Write(text[from:i])
			if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
				fmt.Fprintf(&b, `\u%04x\u%04x`, hi, lo)
			} else {
				fmt.Fprintf(&b, `\u%04x`, r)
			}
			from = i + n
		}
		i += n
	}
	if from == 0 {
		return text
	}
	b.Write(text[from:])
	return []byte(b.String())
}

// A cleanWriter writes to a terminal or a file, and lets nothing through that a
// terminal acts on, but for line ends, tabs and the program's own colours.
type cleanWriter struct {
	under io.Writer
	mu    sync.Mutex
	part  []byte // of a character that the next Write goes on with
}

// Write cleans p. What it returns counts p.
func (w *cleanWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := p
	if len(w.part) > 0 {
		text = append(w.part, p...)
		w.part = nil
	}
	out := make([]byte, 0, len(text))
	for len(text) > 0 {
		if !utf8.FullRune(text) {
			w.part = append([]byte(nil), text...)
			break
		}
		r, n := utf8.DecodeRune(text)
		switch {
		case r == '\n' || r == '\t':
			out = append(out, text[:n]...)
		case r == '\x1b' && colourLen(text) > 0:
			n = colourLen(text)
			out = append(out, text[:n]...)
		case driver.Unprintable(r) || r == utf8.RuneError && n == 1:
			out = append(out, "·"...)
		default:
			out = append(out, text[:n]...)
		}
		text = text[n:]
	}
	if _, err := w.under.Write(out); err != nil {
		return 0, err
	}
	return len(p), nil
}

// colourLen is the length of the colour at the beginning of text, 0 if there is
// none of the program's own.
func colourLen(text []byte) int {
	for _, code := range []string{"0", dim, red, green, yellow, cyan} {
		if s := "\x1b[" + code + "m"; strings.HasPrefix(string(text[:min(len(text), len(s))]), s) {
			return len(s)
		}
	}
	return 0
}

// bare is what a cleanWriter writes to: for the program's own control of a
// terminal, and for what its processes tell each other.
func bare(w io.Writer) io.Writer {
	if c, ok := w.(*cleanWriter); ok {
		return c.under
	}
	return w
}
