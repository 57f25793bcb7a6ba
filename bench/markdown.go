package bench

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Documents keep figures between two lines, of which the first names the
// transport, with ", with peers" where others were measured beside, and with
// ", raw with headers" where the raw client sent headers as well.
const (
	figuresBegin = "<!-- figures: %s -->\n"
	figuresEnd   = "<!-- figures end -->\n"
)

// UpdateMarkdown writes the report's tables into a document, in the place of
// those of the same transports that are there; what has no place is added at
// the end.
func (r *Report) UpdateMarkdown(path string) error {
	text, err := os.ReadFile(path)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.WriteFile(path, []byte(r.intoMarkdown(string(text))), 0o644)
}

func (r *Report) intoMarkdown(text string) string {
	for _, g := range r.grouped() {
		name := g[0].Transport
		if slices.ContainsFunc(g, func(r *Result) bool { return len(r.Peers) > 0 }) {
			name += ", with peers"
		}
		if r.Envelope {
			name += ", raw with headers"
		}
		begin := fmt.Sprintf(figuresBegin, name)
		table := begin + "\n### " + name + "\n\n" + r.markdown(g) + "\n" + figuresEnd
		before, rest, there := strings.Cut(text, begin)
		_, after, closed := strings.Cut(rest, figuresEnd)
		if !there || !closed {
			text = strings.TrimLeft(text+"\n", "\n") + table
			continue
		}
		text = before + table + after
	}
	return text
}

// grouped are the results by transport.
func (r *Report) grouped() (all [][]*Result) {
	for i := range r.Results {
		res := &r.Results[i]
		if n := len(all); n > 0 && all[n-1][0].Transport == res.Transport {
			all[n-1] = append(all[n-1], res)
		} else {
			all = append(all, []*Result{res})
		}
	}
	return all
}

// markdown is a transport's table, with the ratio first.
func (r *Report) markdown(results []*Result) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s/%s, %d CPUs, %s; %d rounds; bodies of %d bytes. %sConfirmed: %s.\n\n", r.Started.Format("2006-01-02"), r.Machine.OS, r.Machine.Arch,
		r.Machine.CPUs, r.Machine.Go, r.Rounds, r.Size, sentence(results[0].Server), results[0].Confirmed)
	var peers []string
	for _, res := range results {
		for _, p := range res.Peers {
			if !slices.Contains(peers, p.Name) {
				peers = append(peers, p.Name)
			}
		}
	}
	row := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	row(append([]string{"path", "ratio", "min–max", "goal", "Dovetail", "raw"}, peers...)...)
	row(slices.Repeat([]string{"---"}, 6+len(peers))...)
	for _, res := range results {
		what := res.Path + ", " + res.Variant
		if res.Error != "" {
			row(append([]string{what, "–", "", "", "not measured: " + strings.ReplaceAll(res.Error, "|", "/"), ""}, slices.Repeat([]string{""}, len(peers))...)...)
			continue
		}
		cells := []string{what, res.ratio(), res.Ratio.span(), res.goal(), res.Ours.said(res.Latency), res.Raw.said(res.Latency)}
		for _, name := range peers {
			cells = append(cells, res.peer(name))
		}
		row(cells...)
	}
	return b.String()
}

func sentence(s string) string {
	if s == "" {
		return ""
	}
	return s + ". "
}

// said is a side's figure in a table: the rate, or p50 and p99, and what only
// some paths have.
func (f *Figures) said(latency bool) string {
	if f == nil {
		return ""
	}
	text := short(f.Rate.Median) + "/s"
	switch {
	case latency && f.P50 != nil:
		text = duration(f.P50.Median) + " / " + duration(f.P99.Median)
	case f.P99 != nil:
		text += ", p50 / p99 " + duration(f.P50.Median) + " / " + duration(f.P99.Median)
	}
	if more := f.more(); more != "" {
		text += ", " + more
	}
	return text
}

// peer is a peer's ratio and figure.
func (r *Result) peer(name string) string {
	for i := range r.Peers {
		p := &r.Peers[i]
		switch {
		case p.Name != name:
		case p.Error != "":
			return "not measured: " + strings.ReplaceAll(p.Error, "|", "/")
		default:
			beside := Result{Latency: r.Latency, Ratio: p.Ratio, RatioP99: p.RatioP99}
			return beside.ratio() + ": " + p.Figures.said(r.Latency)
		}
	}
	return ""
}
