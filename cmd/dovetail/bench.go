package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"

	"github.com/dovetail-go/dovetail/bench"
	"github.com/spf13/cobra"
)

func (a *app) benchCommand() *cobra.Command {
	var o bench.Options
	var callers []string
	var compare, page, document string
	var list bool
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure Dovetail beside the raw client of each transport",
		Long: `Measure Dovetail beside the raw client doing the same work, in the same run, round
by round in turn, each round on a channel of its own. The ratio comes first: it
holds from machine to machine, absolute figures do not.

Transports: mem (a Go channel is raw), embedded (a NATS server in this process),
nats (one in a process of its own), file (append and fdatasync), rabbitmq and kafka
(a server of its own, if one is installed), all, or the URL of a broker of yours.
Paths outbox and inbox are measured on databases: postgres (likewise), sqlite, or
the URL of a PostgreSQL server of yours. Paths: ` + strings.Join(bench.Paths(), ", ") + `.`,
		Example: `  dovetail bench
  dovetail bench --transport nats --path send,receive --seconds 3 --rounds 5
  dovetail bench --transport all -o json > new.json
  dovetail bench --path outbox,inbox --transport postgres --backlog 1000000
  dovetail bench --transport mem --compare old.json`,
		Args: arguments(0, 0, ""),
	}
	f := cmd.Flags()
	f.StringSliceVar(&o.Paths, "path", nil, "what to measure (default: all)")
	f.StringSliceVar(&o.Transports, "transport", nil, "where: mem, embedded, nats, file, rabbitmq, kafka, postgres, sqlite, all, or a URL (default: mem,nats, or postgres,sqlite for outbox and inbox)")
	f.IntVar(&o.Size, "size", 1024, "bytes of a body")
	f.IntVar(&o.Count, "count", 0, "messages in a round (default: what --seconds allow)")
	f.Float64Var(&o.Seconds, "seconds", 1, "how long a round of the slower side takes, about")
	f.IntVar(&o.Rounds, "rounds", 3, "rounds of each side")
	f.StringSliceVar(&callers, "callers", []string{"1", "16", "64"}, "how many send and ask at once")
	f.IntVar(&o.Batch, "batch", 1000, "messages in a batch, and in the raw client's pipeline")
	f.IntVar(&o.Rate, "rate", 1000, "messages per second where latency is measured")
	f.BoolVar(&o.Envelope, "envelope", false, "the raw client sends the same headers: tells what the envelope costs from what Dovetail does")
	f.IntVar(&o.Backlog, "backlog", 100_000, "messages in an outbox that is drained")
	f.DurationVar(&o.LongTx, "long-tx", 0, "a transaction stays open for so long beside each round of path outbox (PostgreSQL)")
	f.StringVar(&o.Dir, "dir", "", "where servers keep their messages (default: a temporary directory, removed at the end)")
	f.StringVar(&o.Profile, "profile", "", "directory for processor profiles of Dovetail's side, one for each test, of its last round, which is slower for it")
	f.StringVar(&compare, "compare", "", "report of an earlier run (-o json) to compare with")
	f.StringVar(&page, "html", "", "file to write the report to as a page with plots, beside what is printed")
	f.StringVar(&document, "markdown", "", "document to write the tables into, in the place of those of the same transports")
	f.BoolVar(&list, "list", false, "list what would be measured")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		o.Callers = nil
		for _, c := range callers {
			n, err := strconv.Atoi(c)
			if err != nil {
				return misuse("--callers %s: want numbers, as in 1,16,64", c)
			}
			o.Callers = append(o.Callers, n)
		}
		names, err := bench.List(o)
		if err != nil {
			return &usageError{err}
		}
		if list {
			return a.listBench(names)
		}
		var old *bench.Report
		if compare != "" {
			if old, err = readReport(compare); err != nil {
				return err
			}
		}
		p := &benchProgress{p: a.progress()}
		if p.p.w == nil {
			p.plain = a.err
		}
		o.Progress = p.show
		report, err := bench.Run(cmd.Context(), o)
		p.p.end()
		if err != nil {
			return err
		}
		if err := a.print(report, report.WriteText); err != nil {
			return err
		}
		if page != "" {
			if err := writePage(page, report); err != nil {
				return err
			}
		}
		if document != "" {
			if err := report.UpdateMarkdown(document); err != nil {
				return err
			}
		}
		if old != nil {
			w := a.out
			if a.output != "table" {
				w = a.err
			}
			if err := bench.WriteComparison(w, old, report); err != nil {
				return err
			}
		}
		return failures(report)
	}
	return cmd
}

func failures(r *bench.Report) error {
	for _, res := range r.Results {
		if res.Error != "" {
			return errors.New("not everything could be measured: the report says why")
		}
	}
	return nil
}

func (a *app) listBench(names []string) error {
	type entry struct {
		Path      string `json:"path"`
		Transport string `json:"transport"`
		Variant   string `json:"variant"`
	}
	entries := make([]entry, len(names))
	for i, n := range names {
		parts := strings.SplitN(n, "\t", 3)
		entries[i] = entry{parts[0], parts[1], parts[2]}
	}
	return a.print(entries, func(w io.Writer) error {
		return columns(w, "PATH\tTRANSPORT\tVARIANT", func(row func(...any)) {
			for _, e := range entries {
				row(e.Path, e.Transport, e.Variant)
			}
		})
	})
}

func writePage(path string, report *bench.Report) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	return errors.Join(report.WriteHTML(f), f.Close())
}

func readReport(path string) (*bench.Report, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var r bench.Report
	if err := json.Unmarshal(b, &r); err != nil {
		return nil, fmt.Errorf("read report %s: %w: want what dovetail bench -o json has printed", path, err)
	}
	return &r, nil
}

// benchProgress shows how far a run is: a bar at a terminal, a line for each
// test elsewhere.
type benchProgress struct {
	mu    sync.Mutex
	p     *progress
	plain io.Writer
	last  int
}

func (b *benchProgress) show(p bench.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.plain != nil {
		if p.Test != b.last {
			fmt.Fprintf(b.plain, "%d of %d: %s\n", p.Test, p.Tests, p.Name)
		}
		b.last = p.Test
		return
	}
	round := "warm-up"
	if p.Round > 0 {
		round = fmt.Sprintf("round %d of %d, %s", p.Round, p.Rounds, p.Side)
	}
	b.p.text(fmt.Sprintf("%s %d of %d: %s, %s, %d of %d", bar(p.Done, p.Total), p.Test, p.Tests, p.Name, round, p.Done, p.Total), false)
}
