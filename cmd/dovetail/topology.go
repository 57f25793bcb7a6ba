package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/spf13/cobra"
)

type channelLine struct {
	Name       string      `json:"name"`
	Kind       string      `json:"kind"`
	Partitions int         `json:"partitions,omitempty"`
	Transient  bool        `json:"transient,omitempty"`
	Messages   int64       `json:"messages"` // at rest; -1 where the broker does not say
	Groups     []groupLine `json:"groups"`
}

type groupLine struct {
	Name    string `json:"name"`
	Backlog int64  `json:"backlog"` // not handed out; -1 where the broker does not say
	Pending int64  `json:"pending"` // handed out and not settled; -1 where the broker does not say
}

func (a *app) topologyCommand() *cobra.Command {
	var (
		own          bool
		rights, user string
	)
	cmd := &cobra.Command{
		Use:   "topology",
		Short: "Show which channels and groups exist",
		Long: `Show which channels and groups exist, with what waits in them: as a table, as
JSON or YAML, or as a graph for Graphviz (dot) or Mermaid. Channels that only
services themselves use (dead letters, requeues, answers) are left out of graphs
unless --own is given.

With --rights it prints the least rights that a service needs instead, as the
broker's operator gives them to a user: the permissions of NATS's configuration,
the command for RabbitMQ, those for Kafka's ACLs. They follow from what the
service does, which its program writes as JSON:

  json.NewEncoder(os.Stdout).Encode(svc.Uses())

The URL of the broker is to have the parameters that the service's has, such as
partitions.`,
		Example: `  dovetail topology
  dovetail topology -o mermaid
  dovetail topology -o dot | dot -Tsvg > topology.svg
  billing --uses | dovetail topology --rights - --user billing`,
		Args:        arguments(0, 0, ""),
		Annotations: map[string]string{moreOutputs: "dot mermaid"},
	}
	cmd.Flags().BoolVar(&own, "own", false, "graphs show the services' own channels as well")
	cmd.AddCommand(a.topologyRemove())
	cmd.Flags().StringVar(&rights, "rights", "", "print the rights for the uses in this file; - reads standard input")
	cmd.Flags().StringVar(&user, "user", "", "the user who is to have the rights")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		conn, done, err := a.connect(cmd.Context())
		if err != nil {
			return err
		}
		defer done()
		if cmd.Flags().Changed("rights") {
			return a.printRights(conn, rights, user)
		}
		l, err := ability[driver.Lister](conn, "list its channels")
		if err != nil {
			return err
		}
		infos, err := l.Channels(cmd.Context())
		if err != nil {
			return err
		}
		lines := channelLines(infos)
		switch a.output {
		case "dot":
			return dot(a.out, visible(lines, own))
		case "mermaid":
			return mermaid(a.out, visible(lines, own))
		}
		return a.print(lines, func(w io.Writer) error { return topologyTable(w, lines) })
	}
	return cmd
}

func channelLines(infos []driver.ChannelInfo) []channelLine {
	lines := make([]channelLine, 0, len(infos))
	for _, c := range infos {
		l := channelLine{c.Channel.Name, c.Channel.Kind.String(), c.Channel.Partitions, c.Channel.Transient, c.Messages, []groupLine{}}
		for _, g := range c.Groups {
			l.Groups = append(l.Groups, groupLine{g.Name, g.Backlog, g.Pending})
		}
		slices.SortFunc(l.Groups, func(a, b groupLine) int { return cmp.Compare(a.Name, b.Name) })
		lines = append(lines, l)
	}
	slices.SortFunc(lines, func(a, b channelLine) int { return cmp.Compare(a.Name, b.Name) })
	return lines
}

// visible leaves out the channels that services keep for themselves.
func visible(lines []channelLine, own bool) []channelLine {
	if own {
		return lines
	}
	return slices.DeleteFunc(slices.Clone(lines), func(l channelLine) bool {
		for _, prefix := range []string{"dead.", "requeue.", "answers.", "reply.", "unhandled."} {
			if strings.HasPrefix(l.Name, prefix) {
				return true
			}
		}
		return false
	})
}

func topologyTable(w io.Writer, lines []channelLine) error {
	if len(lines) == 0 {
		_, err := fmt.Fprintln(w, "there are no channels: they come into being when a service runs")
		return err
	}
	return columns(w, "CHANNEL\tKIND\tPARTITIONS\tMESSAGES\tGROUP\tBACKLOG\tPENDING", func(row func(...any)) {
		for _, l := range lines {
			if len(l.Groups) == 0 {
				row(l.Name, l.Kind, count(int64(l.Partitions), l.Partitions > 0), count(l.Messages, l.Messages >= 0), "-", "-", "-")
			}
			for i, g := range l.Groups {
				if i == 0 {
					row(l.Name, l.Kind, count(int64(l.Partitions), l.Partitions > 0), count(l.Messages, l.Messages >= 0), g.Name, count(g.Backlog, g.Backlog >= 0), count(g.Pending, g.Pending >= 0))
				} else {
					row("", "", "", "", g.Name, count(g.Backlog, g.Backlog >= 0), count(g.Pending, g.Pending >= 0))
				}
			}
		}
	})
}

func count(n int64, known bool) string {
	if !known {
		return "-"
	}
	return fmt.Sprint(n)
}

// dot draws channels as boxes and groups as ellipses
// (https://graphviz.org/doc/info/lang.html).
func dot(w io.Writer, lines []channelLine) error {
	var b strings.Builder
	b.WriteString("digraph topology {\n\trankdir=LR;\n\tnode [fontname=\"sans-serif\"];\n")
	for _, l := range lines {
		style := ""
		if l.Kind == driver.PublishSubscribe.String() {
			style = ", style=rounded"
		}
		fmt.Fprintf(&b, "\t%q [shape=box%s, label=%q];\n", "channel "+l.Name, style, l.Name+waiting(l.Messages))
		for _, g := range l.Groups {
			fmt.Fprintf(&b, "\t%q [shape=ellipse, label=%q];\n", "group "+g.Name, g.Name)
			fmt.Fprintf(&b, "\t%q -> %q [label=%q];\n", "channel "+l.Name, "group "+g.Name, strings.TrimSpace(waiting(g.Backlog)))
		}
	}
	b.WriteString("}\n")
	_, err := io.WriteString(w, b.String())
	return err
}

// mermaid draws the same (https://mermaid.js.org/syntax/flowchart.html).
func mermaid(w io.Writer, lines []channelLine) error {
	var b strings.Builder
	b.WriteString("flowchart LR\n")
	groups := map[string]string{}
	for i, l := range lines {
		left, right := "[", "]"
		if l.Kind == driver.PublishSubscribe.String() {
			left, right = "(", ")"
		}
		fmt.Fprintf(&b, "    c%d%s\"%s\"%s\n", i, left, mermaidText(l.Name+waiting(l.Messages)), right)
		for _, g := range l.Groups {
			id, met := groups[g.Name]
			if !met {
				id = fmt.Sprintf("g%d", len(groups))
				groups[g.Name] = id
				fmt.Fprintf(&b, "    %s([\"%s\"])\n", id, mermaidText(g.Name))
			}
			fmt.Fprintf(&b, "    c%d --> %s\n", i, id)
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// mermaidText writes what ends a label, or is markup in it, as an entity.
func mermaidText(s string) string {
	var b strings.Builder
	for _, r := range clean(s) {
		if strings.ContainsRune("\"#;&<>[]{}|\\`", r) {
			fmt.Fprintf(&b, "#%d;", r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func waiting(n int64) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" (%d)", n)
}
