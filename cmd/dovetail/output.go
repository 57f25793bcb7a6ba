package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
)

// moreOutputs are what a command prints beside table, json and yaml.
const moreOutputs = "outputs"

func (a *app) checkOutput(cmd *cobra.Command) error {
	formats := []string{"table", "json", "yaml"}
	if more := cmd.Annotations[moreOutputs]; more != "" {
		formats = append(formats, strings.Split(more, " ")...)
	}
	if !slices.Contains(formats, a.output) {
		return misuse("--output %s: want %s", a.output, strings.Join(formats, ", "))
	}
	return nil
}

// print writes v as JSON or YAML, or calls table for people.
func (a *app) print(v any, table func(w io.Writer) error) error {
	switch a.output {
	case "json":
		return writeJSON(a.out, v, "  ")
	case "yaml":
		return writeYAML(a.out, v)
	}
	return table(a.out)
}

// printOne writes one of many that come one after the other: a line of JSON, or
// a YAML document.
func (a *app) printOne(v any, table func(w io.Writer) error) error {
	switch a.output {
	case "json":
		return writeJSON(a.out, v, "")
	case "yaml":
		if _, err := io.WriteString(a.out, "---\n"); err != nil {
			return err
		}
		return writeYAML(a.out, v)
	}
	return table(a.out)
}

func writeJSON(w io.Writer, v any, indent string) error {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		return err
	}
	_, err := w.Write(escaped(buf.Bytes()))
	return err
}

// columns writes rows under a header, aligned.
func columns(w io.Writer, header string, rows func(row func(cells ...any))) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if header != "" {
		fmt.Fprintln(t, header)
	}
	rows(func(cells ...any) {
		texts := make([]string, len(cells))
		for i, c := range cells {
			texts[i] = clean(fmt.Sprint(c))
		}
		fmt.Fprintln(t, strings.Join(texts, "\t"))
	})
	return t.Flush()
}

// short cuts text for a table.
func short(s string, n int) string {
	r := []rune(s)
	if len(r) <= n {
		return s
	}
	return string(r[:n-1]) + "…"
}

// terminal reports whether w is one.
func terminal(w any) bool {
	if c, ok := w.(*cleanWriter); ok {
		w = c.under
	}
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// colour paints text for a terminal, unless NO_COLOR or the terminal says no
// (https://no-color.org).
func (a *app) colour(code, s string) string {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" || !terminal(a.out) {
		return s
	}
	return "\x1b[" + code + "m" + s + "\x1b[0m"
}

const (
	dim    = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)
