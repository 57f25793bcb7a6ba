package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/spf13/cobra"
)

// A draft is what flags say of the messages to send.
type draft struct {
	typ, channel, key, id, contentType, source, data string
	headers                                          []string
	envelope                                         bool
	create                                           bool

	name    string // of the contract, without its version
	version int
}

func (d *draft) flags(cmd *cobra.Command, many bool) {
	f := cmd.Flags()
	f.StringVar(&d.typ, "type", "", "message type, as in mail.send-welcome.v1; the same as the argument")
	f.StringVar(&d.channel, "channel", "", "channel (default: the type without its version)")
	f.StringVarP(&d.data, "data", "d", "", "body; @FILE reads it from a file")
	f.StringVar(&d.key, "key", "", "messages of one key keep their order")
	f.StringVar(&d.id, "id", "", "message id; sending the same one again is safe behind an inbox (default: a new one)")
	f.StringArrayVarP(&d.headers, "header", "H", nil, "name=value of a further header; may be repeated")
	f.StringVar(&d.contentType, "content-type", "application/json", "media type of the body")
	f.StringVar(&d.source, "source", "dovetail-cli", "service in whose name it is sent")
	if many {
		f.BoolVar(&d.create, "create", false, "make the channel if it does not exist")
		f.BoolVar(&d.envelope, "envelope", false, "lines of standard input are whole messages, as tail -o json prints them")
	}
}

// check reads the type from the argument or the flag and takes it apart.
func (d *draft) check(args []string) error {
	if len(args) == 1 {
		if d.typ != "" && d.typ != args[0] {
			return misuse("type %s as argument and %s with --type: want one", args[0], d.typ)
		}
		d.typ = args[0]
	}
	if d.typ == "" && !d.envelope {
		return misuse("message type is missing: name it, as in mail.send-welcome.v1")
	}
	if err := driver.ValidName(d.source); err != nil {
		return misuse("--source: %v", err)
	}
	if d.envelope && d.data != "" {
		return misuse("--envelope reads standard input and --data gives the body: want one")
	}
	for _, h := range d.headers {
		if name, _, ok := strings.Cut(h, "="); !ok || name == "" {
			return misuse("--header %q: want name=value", h)
		}
	}
	if d.typ == "" {
		return nil
	}
	var err error
	if d.name, d.version, err = splitType(d.typ); err != nil {
		return err
	}
	if d.channel == "" {
		d.channel = d.name
	}
	if err := driver.ValidName(d.channel); err != nil {
		return misuse("--channel: %v", err)
	}
	return nil
}

// splitType takes "a.b.v2" apart; a type without a version is v1.
func splitType(typ string) (name string, version int, err error) {
	name, version = typ, 1
	if i := strings.LastIndex(typ, ".v"); i > 0 {
		if n, err := strconv.Atoi(typ[i+2:]); err == nil && n > 0 {
			name, version = typ[:i], n
		}
	}
	if err := driver.ValidName(name); err != nil {
		return "", 0, misuse("message type %s: %v", typ, err)
	}
	return name, version, nil
}

// message makes the message of one body.
func (d *draft) message(body []byte) (*driver.Message, error) {
	m := &driver.Message{
		Channel: d.channel, ID: d.id, Source: d.source, Type: fmt.Sprintf("%s.v%d", d.name, d.version),
		Time: timestamp(), ContentType: d.contentType, Key: d.key, Body: body,
	}
	if m.ID == "" {
		m.ID = dovetail.NewID()
	}
	for _, h := range d.headers {
		name, value, _ := strings.Cut(h, "=")
		m.Headers = append(m.Headers, driver.Header{Name: name, Value: value})
	}
	if isJSON(m.ContentType) && !json.Valid(body) {
		return nil, fmt.Errorf("body is not valid JSON: %s: correct it, or say what it is with --content-type", short(string(body), 60))
	}
	return m, nil
}

// one is the body that --data gives; ok is false where it was left out.
func (d *draft) one(cmd *cobra.Command) (body []byte, ok bool, err error) {
	if !cmd.Flags().Changed("data") {
		return nil, false, nil
	}
	if name, isFile := strings.CutPrefix(d.data, "@"); isFile {
		body, err = os.ReadFile(name)
		return body, true, err
	}
	return []byte(d.data), true, nil
}

// A line is one message that was read, with where it stood.
type line struct {
	number int
	m      *driver.Message
	err    error
}

// maxLine bounds a line of standard input, in bytes.
const maxLine = 16 << 20

// lines reads messages from standard input, one a line, blank lines left out.
func (d *draft) lines(in io.Reader, each func(line) error) error {
	scan := bufio.NewScanner(in)
	scan.Buffer(make([]byte, 64<<10), maxLine)
	for n := 1; scan.Scan(); n++ {
		text := strings.TrimSpace(scan.Text())
		if text == "" {
			continue
		}
		l := line{number: n}
		if d.envelope {
			l.m, l.err = d.unwrap(text)
		} else {
			l.m, l.err = d.message([]byte(text))
		}
		if err := each(l); err != nil {
			return err
		}
	}
	if err := scan.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return fmt.Errorf("read standard input: a line is over %d MiB", maxLine>>20)
		}
		return fmt.Errorf("read standard input: %w", err)
	}
	return nil
}

// unwrap reads a whole message; flags stand for what it leaves out.
func (d *draft) unwrap(text string) (*driver.Message, error) {
	var s shown
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, fmt.Errorf("line is no message: %w", err)
	}
	if s.Type == "" {
		s.Type = d.typ
	}
	name, version, err := splitType(s.Type)
	if err != nil {
		return nil, err
	}
	one := *d
	one.name, one.version = name, version
	set := func(field *string, values ...string) {
		for _, v := range values {
			if v != "" {
				*field = v
				return
			}
		}
	}
	set(&one.channel, d.channel, s.Channel, name)
	set(&one.id, s.ID, d.id)
	set(&one.key, s.Key, d.key)
	set(&one.source, s.Source, d.source)
	if s.ContentType == "" {
		s.ContentType = d.contentType
	}
	one.contentType = s.ContentType
	body, err := s.body()
	if err != nil {
		return nil, err
	}
	m, err := one.message(body)
	if err != nil {
		return nil, err
	}
	for name, value := range s.Headers {
		m.Headers = m.Headers.With(name, value)
	}
	m.CorrelationID, m.CausationID = s.Correlation, s.Causation
	if s.Time != nil {
		m.Time = s.Time.UTC()
	}
	return m, nil
}
