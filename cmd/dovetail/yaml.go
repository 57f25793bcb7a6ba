package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
	"gopkg.in/yaml.v3"
)

// writeYAML goes by way of JSON, so that names, omissions and raw JSON are the
// same in both.
func writeYAML(w io.Writer, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	node, err := yamlNode(d)
	if err != nil {
		return err
	}
	var buf bytes.Buffer
	e := yaml.NewEncoder(&buf)
	e.SetIndent(2)
	if err := e.Encode(node); err != nil {
		return err
	}
	_, err = w.Write(escaped(buf.Bytes()))
	return err
}

// yamlNode reads the next value. It does not read JSON as YAML, which knows other
// escapes and fewer characters.
func yamlNode(d *json.Decoder) (*yaml.Node, error) {
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	n := &yaml.Node{Kind: yaml.ScalarNode}
	switch t := t.(type) {
	case json.Delim:
		n.Kind = yaml.SequenceNode
		if t == '{' {
			n.Kind = yaml.MappingNode
		}
		for d.More() {
			if n.Kind == yaml.MappingNode {
				key, err := yamlNode(d)
				if err != nil {
					return nil, err
				}
				n.Content = append(n.Content, key)
			}
			value, err := yamlNode(d)
			if err != nil {
				return nil, err
			}
			n.Content = append(n.Content, value)
		}
		if len(n.Content) == 0 {
			n.Style = yaml.FlowStyle
		}
		_, err := d.Token()
		return n, err
	case string:
		n.Tag, n.Value = "!!str", t
		switch {
		case strings.ContainsFunc(strings.ReplaceAll(t, "\n", ""), driver.Unprintable):
			n.Style = yaml.DoubleQuotedStyle // in which escapes are read
		case strings.Contains(t, "\n"):
			n.Style = yaml.LiteralStyle
		}
	case nil:
		n.Value = "null"
	default: // a number as it was written, true, false
		n.Value = fmt.Sprint(t)
	}
	return n, nil
}
