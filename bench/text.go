package bench

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// WriteText writes the report as tables for people: the ratio first, then both
// sides, each as the median of the rounds with the least and the most.
func (r *Report) WriteText(w io.Writer) error {
	fmt.Fprintf(w, "%s, %s/%s, %d CPUs, %s; bodies of %d bytes, %d rounds of each side in turn\n", r.Started.Format("2006-01-02 15:04 MST"),
		r.Machine.OS, r.Machine.Arch, r.Machine.CPUs, r.Machine.Go, r.Size, r.Rounds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	transport := ""
	for i := range r.Results {
		res := &r.Results[i]
		if res.Transport != transport {
			transport = res.Transport
			fmt.Fprintf(t, "\n%s\t(%sconfirmed: %s)\n", transport, separate(res.Server), res.Confirmed)
			fmt.Fprintln(t, "ratio\tmin–max\tgoal\tpath\tvariant\tdovetail\traw\tp50/p99/p99.9 dovetail\traw\tallocs\traw\tcpu\traw\tcount\tmore dovetail\traw")
		}
		if res.Error != "" {
			fmt.Fprintf(t, "–\t\t\t%s\t%s\terror: %s\n", res.Path, res.Variant, res.Error)
			continue
		}
		fmt.Fprintln(t, strings.Join([]string{res.ratio(), res.Ratio.span(), res.goal(), res.Path, res.Variant,
			res.Ours.rate(), res.Raw.rate(), res.Ours.latency(), res.Raw.latency(), res.Ours.allocs(), res.Raw.allocs(), res.Ours.cpu(), res.Raw.cpu(), fmt.Sprint(res.Count), res.Ours.more(), res.Raw.more()}, "\t"))
		for k := range res.Peers {
			fmt.Fprintln(t, res.Peers[k].line(res))
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nratio: dovetail to raw, of rates (more is better); of p50, marked ×, then of p99, where a rate is given (less is better).")
	fmt.Fprintln(w, "allocs, cpu: per message, in this process, which with embedded is the server's as well.")
	raw := "the client alone"
	if r.Envelope {
		raw = "the client alone, with the envelope's headers where the transport has them"
	}
	fmt.Fprintf(w, "dovetail: keyed messages with an envelope, through three middlewares; raw: %s, with the same durability.\n", raw)
	for _, e := range r.Errors {
		fmt.Fprintln(w, "error:", e)
	}
	return nil
}

// line is a peer's, below that of both sides.
func (p *PeerResult) line(r *Result) string {
	if p.Error != "" {
		return fmt.Sprintf("–\t\t\t\t%s\terror: %s", p.Name, p.Error)
	}
	beside := Result{Latency: r.Latency, Ratio: p.Ratio, RatioP99: p.RatioP99}
	return strings.Join([]string{beside.ratio(), p.Ratio.span(), "", "", "  " + p.Name, p.Figures.rate(), "", p.Figures.latency(), "", p.Figures.allocs(), "", p.Figures.cpu(), "", "", p.Figures.more()}, "\t")
}

func separate(server string) string {
	if server == "" {
		return ""
	}
	return server + "; "
}

func (r *Result) ratio() string {
	switch {
	case r.Ratio == nil:
		return "–"
	case r.Latency:
		return fmt.Sprintf("×%.2f ×%.2f", r.Ratio.Median, r.RatioP99.Median)
	}
	return fmt.Sprintf("%.2f", r.Ratio.Median)
}

func (r *Result) goal() string {
	good, known := r.Good()
	if !known {
		return ""
	}
	goal := fmt.Sprintf("≥%.2f", r.Goal)
	if r.GoalNS > 0 {
		goal = fmt.Sprintf("≤%gns", r.GoalNS)
	} else if r.Latency {
		goal = fmt.Sprintf("≤%.2f", r.Goal)
	}
	if good {
		return goal + " met"
	}
	return goal + " missed"
}

func (s *Spread) span() string {
	if s == nil {
		return ""
	}
	return fmt.Sprintf("%.2f–%.2f", s.Min, s.Max)
}

func (f *Figures) rate() string {
	if f == nil {
		return ""
	}
	return fmt.Sprintf("%s/s (%s–%s)", short(f.Rate.Median), short(f.Rate.Min), short(f.Rate.Max))
}

func (f *Figures) latency() string {
	if f == nil || f.P50 == nil {
		return ""
	}
	return fmt.Sprintf("%s/%s/%s", duration(f.P50.Median), duration(f.P99.Median), duration(f.P999.Median))
}

func (f *Figures) allocs() string {
	if f == nil {
		return ""
	}
	return fmt.Sprintf("%.1f", f.Allocs.Median)
}

func (f *Figures) cpu() string {
	if f == nil || f.CPU.Median == 0 {
		return ""
	}
	return duration(f.CPU.Median / 1e3)
}

// more is what only some paths have.
func (f *Figures) more() string {
	if f == nil {
		return ""
	}
	var parts []string
	for _, m := range []struct{ name, format string }{
		{"committed_per_s", "committed %.0f/s"}, {"peak_rss_mib", "peak %.0f MiB"}, {"peak_heap_mib", "heap %.0f MiB"},
	} {
		if s, ok := f.More[m.name]; ok {
			parts = append(parts, fmt.Sprintf(m.format, s.Median))
		}
	}
	return strings.Join(parts, ", ")
}

// short is a rate in three digits.
func short(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.3gM", v/1e6)
	case v >= 1e3:
		return fmt.Sprintf("%.3gk", v/1e3)
	}
	return fmt.Sprintf("%.3g", v)
}

func duration(us float64) string {
	switch {
	case us >= 1000:
		return fmt.Sprintf("%.3gms", us/1000)
	case us < 1:
		return fmt.Sprintf("%.3gns", us*1000)
	}
	return fmt.Sprintf("%.3gµs", us)
}
