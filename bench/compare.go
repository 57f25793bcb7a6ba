package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// WriteComparison writes how the results of two reports differ, for those that
// are in both: the ratios, which hold from machine to machine, then the rates or
// latencies and what a message costs. A difference within the spreads of both
// is said to be one that may mean nothing.
func WriteComparison(w io.Writer, before, after *Report) error {
	earlier := map[string]*Result{}
	for i := range before.Results {
		r := &before.Results[i]
		earlier[r.name()] = r
	}
	fmt.Fprintf(w, "\ncompared with %s\n", before.Started.Format("2006-01-02 15:04 MST"))
	if before.Machine != after.Machine || before.Size != after.Size {
		fmt.Fprintf(w, "note: that was %s/%s, %d CPUs, %s, bodies of %d bytes\n", before.Machine.OS, before.Machine.Arch,
			before.Machine.CPUs, before.Machine.Go, before.Size)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "path\ttransport\tvariant\tratio before\tafter\t\tdovetail before\tafter\tallocs before\tafter")
	for i := range after.Results {
		now := &after.Results[i]
		then := earlier[now.name()]
		if then == nil || now.Ours == nil || then.Ours == nil {
			continue
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", now.Path, now.Transport, now.Variant, then.ratio(), now.ratio(), verdict(then, now),
			then.main(), now.main(), then.Ours.allocs(), now.Ours.allocs())
	}
	return t.Flush()
}

func (r *Result) name() string { return r.Path + "\t" + r.Transport + "\t" + r.Variant }

// main is the figure that the line is about.
func (r *Result) main() string {
	if r.Latency && r.Ours.P50 != nil {
		return r.Ours.latency()
	}
	return short(r.Ours.Rate.Median) + "/s"
}

// verdict says whether the ratio moved beyond what the rounds differ by.
func verdict(then, now *Result) string {
	if then.Ratio == nil || now.Ratio == nil {
		return ""
	}
	better, worse := now.Ratio.Min > then.Ratio.Max, now.Ratio.Max < then.Ratio.Min
	if now.Latency {
		better, worse = worse, better
	}
	switch {
	case better:
		return "better"
	case worse:
		return "worse"
	}
	return "within the spread"
}
