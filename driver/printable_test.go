package driver_test

import (
	"bytes"
	"errors"
	"log"
	"log/slog"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dovetail-go/dovetail/driver"
)

func TestPrintable_leaves_nothing_that_a_terminal_acts_on(t *testing.T) {
	for in, want := range map[string]string{
		"":                         "",
		"plain text of one line":   "plain text of one line",
		"ключ ✓ 你好　。é":             "ключ ✓ 你好　。é",
		"می\u200cخواهم":            "می\u200cخواهم",
		"a\nb\tc\rd":               "a b c d",
		"\x1b[2J":                  "·[2J",
		"\x1b]0;title\x07":         "·]0;title·",
		"del\x7f":                  "del·",
		"c1 \u009b31m":             "c1 ·31m",
		"8 bit \x9b31m":            "8 bit ·31m",
		"half a rune \xe4\xbd":     "half a rune ·",
		"bidi \u202egpj.exe":       "bidi ·gpj.exe",
		"isolate \u2066x\u2069":    "isolate ·x·",
		"zero\u200bwidth\ufeff":    "zero·width·",
		"line\u2028paragraph\x85":  "line·paragraph·",
		"nul \x00":                 "nul ·",
		"tag \U000e0041":           "tag ·",
		"eight bytes and DEL \x7f": "eight bytes and DEL ·",
	} {
		if got := driver.Printable(in); got != want {
			t.Errorf("%q is shown as %q, want %q", in, got, want)
		}
	}
}

func FuzzPrintable(f *testing.F) {
	f.Add("plain")
	f.Add("\x1b[31m\x7f\u009b\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := driver.Printable(s)
		if !utf8.ValidString(got) || strings.ContainsFunc(got, driver.Unprintable) || driver.Printable(got) != got {
			t.Errorf("%q is shown as %q", s, got)
		}
	})
}

// TestLogger_writes_what_can_be_read looks at what JSON handlers let through:
// they escape less than a terminal acts on.
func TestLogger_writes_what_can_be_read(t *testing.T) {
	const hostile = "\x1b[2J\x7f\u009b\u202e\nlevel=ERROR"
	var buf bytes.Buffer
	l := driver.PrintableLogger(slog.New(slog.NewJSONHandler(&buf, nil)))
	l.With("with", hostile).WithGroup("g").Info("x"+hostile, "text", hostile, "error", errors.New(hostile), slog.Group("deep", "in", hostile),
		"list", []string{hostile}, "n", 3)
	line := strings.TrimSuffix(buf.String(), "\n")
	if strings.ContainsFunc(line, driver.Unprintable) || strings.Contains(line, `\n`) || strings.Contains(line, `\u001b`) || !strings.Contains(line, `"n":3`) {
		t.Errorf("%q", line)
	}
	if again := driver.PrintableLogger(l); again != l {
		t.Error("what it returned is wrapped again")
	}
}

// A program that sets no handler of its own may make a service's logger the
// default one.
func TestLogger_of_a_program_that_sets_none_can_become_the_default(t *testing.T) {
	var buf bytes.Buffer
	before, out := slog.Default(), log.Writer()
	log.SetOutput(&buf)
	defer func() { slog.SetDefault(before); log.SetOutput(out) }()
	l := driver.PrintableLogger(nil)
	slog.SetDefault(l)
	l.Info("told", "text", "\x1b[2J\x7f\u009b\u202e")
	if line := strings.TrimSuffix(buf.String(), "\n"); !strings.Contains(line, "told") || strings.ContainsFunc(line, driver.Unprintable) {
		t.Errorf("%q", line)
	}
}
