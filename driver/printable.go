package driver

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"unicode"
)

// Printable returns s in one line, without characters on which a terminal, an
// editor or a log viewer acts. It is for texts that others wrote and that are shown
// to a person. Line ends and tabs become spaces. Control characters (C0, DEL, C1),
// characters that are invisible or change the direction of writing, and bytes that
// are not UTF-8 become a middle dot.
func Printable(s string) string {
	if printable(s) && strings.IndexByte(s, 0x7f) < 0 {
		return s
	}
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t' || r == '\r':
			return ' '
		case Unprintable(r):
			return '·'
		}
		return r
	}, strings.ToValidUTF8(s, "·"))
}

// Unprintable reports whether Printable replaces r: it is not a graphic character
// (unicode.IsGraphic), and neither U+200C nor U+200D, which join letters in some
// scripts.
func Unprintable(r rune) bool {
	const nonJoiner, joiner = '\u200c', '\u200d'
	return !unicode.IsGraphic(r) && r != nonJoiner && r != joiner
}

// PrintableLogger returns a logger that writes to l, or to slog.Default() where l is
// nil, with messages and attributes made Printable: strings, errors and lists of
// strings, also in groups. The core and the transports log through it, since others
// wrote the names, ids and error texts. It returns the logger itself where that
// does the same already, and where its handler is the standard library's default.
func PrintableLogger(l *slog.Logger) *slog.Logger {
	if l == nil {
		l = slog.Default()
	}
	if _, is := l.Handler().(printing); is {
		return l
	}
	// The handler of a program that sets none quotes what is not printable itself.
	// slog.SetDefault with one that wraps it would make package log deadlock.
	if fmt.Sprintf("%T", l.Handler()) == "*slog.defaultHandler" {
		return l
	}
	return slog.New(printing{l.Handler()})
}

// printing is a slog.Handler that makes attributes Printable.
type printing struct{ slog.Handler }

func (p printing) Handle(ctx context.Context, r slog.Record) error {
	clean := slog.NewRecord(r.Time, r.Level, Printable(r.Message), r.PC)
	r.Attrs(func(a slog.Attr) bool {
		clean.AddAttrs(printableAttr(a))
		return true
	})
	return p.Handler.Handle(ctx, clean)
}

func (p printing) WithAttrs(attrs []slog.Attr) slog.Handler {
	clean := make([]slog.Attr, len(attrs))
	for i, a := range attrs {
		clean[i] = printableAttr(a)
	}
	return printing{p.Handler.WithAttrs(clean)}
}

func (p printing) WithGroup(name string) slog.Handler {
	return printing{p.Handler.WithGroup(name)}
}

func printableAttr(a slog.Attr) slog.Attr {
	v := a.Value.Resolve()
	switch v.Kind() {
	case slog.KindString:
		return slog.String(a.Key, Printable(v.String()))
	case slog.KindGroup:
		group := make([]slog.Attr, 0, len(v.Group()))
		for _, m := range v.Group() {
			group = append(group, printableAttr(m))
		}
		return slog.Attr{Key: a.Key, Value: slog.GroupValue(group...)}
	case slog.KindAny:
		switch x := v.Any().(type) {
		case error:
			return slog.String(a.Key, Printable(x.Error()))
		case []string:
			texts := make([]string, len(x))
			for i, s := range x {
				texts[i] = Printable(s)
			}
			return slog.Any(a.Key, texts)
		}
	}
	return slog.Attr{Key: a.Key, Value: v}
}
