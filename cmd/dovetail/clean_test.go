package main

import (
	"bytes"
	"encoding/json"
	"io"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"gopkg.in/yaml.v3"
)

// hostile is what a terminal acts on, of every kind, without what no attribute
// can have.
const hostile = "\x1b[2J\x1b]0;owned\x07\x7f\u009b31m\u0090\u202e\u2066\u200b\ufeff\u2028\b\x0bend"

// TestCommands_print_what_others_wrote_cleaned sends messages, dead letters and
// answers that are hostile in every part, and looks at every byte that is printed
// of them, in every format.
func TestCommands_print_what_others_wrote_cleaned(t *testing.T) {
	dir := t.TempDir()
	broker := "file:" + filepath.Join(dir, "bus")
	conn, err := driver.Open(t.Context(), broker)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(t.Context()) })
	bodies := []string{hostile, "\r\x00line\r\n\tnext" + hostile, "\x9b31m\xff", `"` + strings.ReplaceAll(hostile, "\x1b", "") + `"`,
		`{"a":"` + "\x7f\u009b\u202e" + `","\u0000":"\ud800 \ud83d\ude00 \u001b","a":1e400,"b":[],"c":{},"<<":null,"\u009b":{"*":"&a"}}`,
		`["` + "\x9b" + `"]`, strings.Repeat("[", 9000) + strings.Repeat("]", 9000), "- x: !!binary |", "null", "123", ""}
	deadOf := driver.Channel{Name: dovetail.DeadLetterChannel("mail")}
	ch := driver.Channel{Name: "mail.letter"}
	if err := conn.Provision(t.Context(), []driver.Channel{ch, deadOf}, []driver.Subscription{{Channel: ch, Group: "mail"}, {Channel: deadOf, Group: "mail"}}); err != nil {
		t.Fatal(err)
	}
	stack := "goroutine 1:\n\tmain.go:1 " + hostile
	for i, body := range bodies {
		for _, contentType := range []string{"application/json", "text/plain" + hostile} {
			id := hostile + string(rune('a'+i)) + contentType[:1]
			m := &driver.Message{Channel: ch.Name, ID: id, Source: hostile, Type: hostile, Time: time.Now(), ContentType: contentType, Key: hostile,
				CorrelationID: hostile, CausationID: hostile, ReplyTo: hostile, Headers: driver.Headers{{Name: hostile, Value: hostile}}, Body: []byte(body)}
			d := *m
			d.Channel, d.ID = deadOf.Name, "dead"+id
			d.Headers = driver.Headers{{Name: hostile, Value: hostile}, {Name: "dovetail-dead-service", Value: "mail"}, {Name: "dovetail-dead-group", Value: hostile},
				{Name: "dovetail-dead-handler", Value: hostile}, {Name: "dovetail-dead-error", Value: driver.EscapeValue("no\n" + hostile)},
				{Name: "dovetail-dead-stack", Value: driver.EscapeValue(stack)}, {Name: "dovetail-original-channel", Value: hostile},
				{Name: "dovetail-original-id", Value: hostile}, {Name: "dovetail-original-source", Value: hostile},
				{Name: "dovetail-dead-cause", Value: hostile}}
			if err := conn.Send(t.Context(), []*driver.Message{m, &d}); err != nil {
				t.Fatal(err)
			}
		}
	}
	all := 2 * len(bodies)
	for _, command := range [][]string{
		{"tail", "*", "--stored", "--rate", "0"}, {"dead", "list", "--limit", "0"}, {"dead", "show", hostile}, {"topology"},
		{"dead", "requeue", "--all", "--dry-run"}, {"dead", "requeue", "dead" + hostile + "ka", "dead" + hostile + "aa"}, {"dead", "discard", "--all", "--yes"},
		{"dead", "show", "no" + hostile}, {"tail", "no" + hostile}, {hostile}, {"tail", "--" + hostile}, {"send", hostile, "--data", hostile},
	} {
		for _, format := range []string{"table", "json", "yaml"} {
			if command[1%len(command)] == "discard" && format != "yaml" {
				continue
			}
			t.Run(strings.Join(command[:min(2, len(command))], " ")+" "+format, func(t *testing.T) {
				code, printed := used(t, append(command, "--broker", broker, "-o", format)...)
				if i := strings.IndexFunc(strings.NewReplacer("\n", "", "\t", "").Replace(printed), driver.Unprintable); i >= 0 || !utf8.ValidString(printed) {
					t.Errorf("exit code %d; a terminal acts on what is printed: %q", code, printed)
				}
				if strings.Contains(command[0], "tail") && len(command) == 5 {
					n := strings.Count(printed, "2J")
					if code != 0 || n < 2*all || format == "yaml" && strings.Count(printed, "---\n") != 2*all {
						t.Errorf("exit code %d: %d messages are shown, want %d:\n%s", code, n, 2*all, printed[max(0, len(printed)-600):])
					}
				}
			})
		}
	}
}

// TestAnswers_are_printed_cleaned looks at what request and gather print.
func TestAnswers_are_printed_cleaned(t *testing.T) {
	for _, format := range []string{"table", "json", "yaml"} {
		for _, err := range []error{nil, &dovetail.RemoteRefusal{Service: hostile, Code: hostile, Message: hostile}, &dovetail.RemoteError{Service: hostile, Message: hostile}} {
			var out bytes.Buffer
			a := newApp(nil, &out, io.Discard)
			a.output = format
			_ = a.answer(dovetail.Answer[[]byte]{Value: []byte(hostile + "\r\n\x9b"), Service: hostile, Instance: hostile}, "text/plain", err, time.Now())
			if s := out.String(); s == "" || strings.ContainsFunc(strings.ReplaceAll(s, "\n", ""), driver.Unprintable) || !utf8.ValidString(s) {
				t.Errorf("%s, %v: %q", format, err, s)
			}
		}
	}
}

func TestCleanWriter_joins_what_comes_in_parts(t *testing.T) {
	var out bytes.Buffer
	w := &cleanWriter{under: &out}
	const text = "你好 \x1b[31mred\x1b[0m \x1b[8mhidden\x1b[31\r\u009bé\n"
	for i := 0; i < len(text); {
		n := 1
		if text[i] == 0x1b {
			n = min(5, len(text)-i) // a colour comes whole
		}
		if _, err := io.WriteString(w, text[i:i+n]); err != nil {
			t.Fatal(err)
		}
		i += n
	}
	if got, want := out.String(), "你好 \x1b[31mred\x1b[0m ·[8mhidden·[31··é\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// FuzzPrinted prints messages of any content in every format: nothing that a
// terminal acts on is in it, and JSON and YAML tell what was there.
func FuzzPrinted(f *testing.F) {
	f.Add("id", "type", hostile, "application/json", []byte(`{"a":"\ud83d\ude00`+"\x7f"+`","n":1e5}`))
	f.Add(hostile, hostile, hostile, "text/plain", []byte("\x9b\r\n"))
	f.Add("é", "x\ny: [", "- &a *b", "text/plain", []byte("a\n b\n"))
	f.Fuzz(func(t *testing.T, id, typ, value, contentType string, body []byte) {
		m := driver.Foreign(&driver.Message{ID: id, Type: typ, Source: typ, Key: value, ContentType: contentType, Headers: driver.Headers{{Name: "h", Value: value}}, Body: body})
		s := show(m)
		for _, format := range []string{"json", "yaml", "table"} {
			var out bytes.Buffer
			a := newApp(nil, &out, io.Discard)
			a.output = format
			d := deadItem{DeadLetter: dovetail.DeadLetter{Message: m, ID: id, Error: value, Stack: string(body), Handler: typ}}
			if err := a.printOne(s, func(w io.Writer) error { return d.write(w) }); err != nil {
				t.Fatalf("%s: %v", format, err)
			}
			if printed := out.String(); strings.ContainsFunc(strings.NewReplacer("\n", "", "\t", "").Replace(printed), driver.Unprintable) || !utf8.ValidString(printed) {
				t.Fatalf("%s: %q", format, printed)
			}
			var back shown
			switch format {
			case "json":
				if err := json.Unmarshal(out.Bytes(), &back); err != nil {
					t.Fatalf("%v: %s", err, out.Bytes())
				}
				if back.ID != m.ID || back.Type != m.Type || back.Headers["h"] != m.Headers[0].Value {
					t.Fatalf("%+v came back as %+v", s, back)
				}
				if b, err := back.body(); err == nil && !isJSON(m.ContentType) && !bytes.Equal(b, body) && len(b)+len(body) > 0 {
					t.Fatalf("body %q came back as %q", body, b)
				}
			case "yaml":
				var node yaml.Node
				if err := yaml.Unmarshal(out.Bytes(), &node); err != nil {
					t.Fatalf("%v: %s", err, out.Bytes())
				}
				var texts struct {
					ID, Type string
					Headers  map[string]string
				}
				if err := node.Decode(&texts); err == nil && (texts.ID != m.ID || texts.Type != m.Type || texts.Headers["h"] != m.Headers[0].Value) {
					t.Fatalf("%+v came back as %+v from %s", s, texts, out.Bytes())
				}
			}
		}
	})
}
