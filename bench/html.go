package bench

import (
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"math"
	"slices"
)

//go:embed report.tmpl.html
var pageText string

var pageTemplate = template.Must(template.New("report").Parse(pageText))

// A page is the report as its template wants it. Places are in percent of the
// width.
type page struct {
	Started, Machine string
	Size, Rounds     int
	Ticks            []mark
	One              float64
	Groups           []*group
	Errors           []string
}

type mark struct {
	At   float64
	Text string
	Name string
}

type group struct {
	Name, Server, Confirmed string
	Ratios                  []ratioLine
	Figures                 []figureLine
	Rows                    [][]string
	Peers                   []string
}

type ratioLine struct {
	Path, Variant, Ratio string
	At, From, To         float64
	GoalAt               float64 // 0 for none
	Goal                 *goalMark
	Peers                []mark
}

type goalMark struct{ Class, Mark, Text string }

type figureLine struct {
	Path, Variant, Unit string
	Bars                []bar
}

type bar struct {
	Class, Text     string
	Width, From, To float64
	Span            bool
}

// The scale of ratios is logarithmic: half and twice are as far from one.
const scaleFrom, scaleTo = 1.0 / 32, 4.0

func place(ratio float64) float64 {
	at := math.Log(ratio/scaleFrom) / math.Log(scaleTo/scaleFrom) * 100
	return math.Round(10*min(max(at, 0), 100)) / 10
}

// WriteHTML writes the report as a page that needs nothing else: ratios first,
// drawn on one scale, then the figures of both sides.
func (r *Report) WriteHTML(w io.Writer) error {
	p := &page{
		Started: r.Started.Format("2006-01-02 15:04 MST"), Size: r.Size, Rounds: r.Rounds, One: place(1), Errors: slices.Clone(r.Errors),
		Machine: fmt.Sprintf("%s/%s, %d CPUs, %s", r.Machine.OS, r.Machine.Arch, r.Machine.CPUs, r.Machine.Go),
	}
	for _, t := range []struct {
		v    float64
		text string
	}{{1.0 / 16, "1/16"}, {0.125, "1/8"}, {0.25, "1/4"}, {0.5, "1/2"}, {1, "1"}, {2, "2"}} {
		p.Ticks = append(p.Ticks, mark{At: place(t.v), Text: t.text})
	}
	var g *group
	for i := range r.Results {
		res := &r.Results[i]
		if g == nil || g.Name != res.Transport {
			g = &group{Name: res.Transport, Server: res.Server, Confirmed: res.Confirmed}
			p.Groups = append(p.Groups, g)
		}
		if res.Error != "" {
			p.Errors = append(p.Errors, fmt.Sprintf("%s %s %s: %s", res.Path, res.Transport, res.Variant, res.Error))
			continue
		}
		g.add(res)
	}
	return pageTemplate.Execute(w, p)
}

func (g *group) add(r *Result) {
	if r.Ratio != nil {
		g.Ratios = append(g.Ratios, r.line())
	}
	g.Figures = append(g.Figures, r.figure())
	g.Rows = append(g.Rows, []string{r.Path + " " + r.Variant, r.ratio(), r.Ratio.span(), r.Ours.rate(), r.Raw.rate(), r.Ours.latency(), r.Raw.latency(),
		r.Ours.allocs(), r.Raw.allocs(), r.Ours.cpu(), r.Raw.cpu(), fmt.Sprint(r.Count), r.Ours.more()})
	for _, peer := range r.Peers {
		if !slices.Contains(g.Peers, peer.Name) {
			g.Peers = append(g.Peers, peer.Name)
		}
	}
}

// better is a ratio with more being better.
func (r *Result) better(v float64) float64 {
	if r.Latency && v > 0 {
		return 1 / v
	}
	return v
}

func twoDigits(v float64) string {
	if v < 0.1 {
		return fmt.Sprintf("%.2g", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func (r *Result) line() ratioLine {
	l := ratioLine{Path: r.Path, Variant: r.Variant}
	l.Ratio = twoDigits(r.better(r.Ratio.Median))
	l.At, l.From, l.To = place(r.better(r.Ratio.Median)), place(r.better(r.Ratio.Min)), place(r.better(r.Ratio.Max))
	if good, known := r.Good(); known && r.Goal > 0 {
		goal := r.better(r.Goal)
		l.GoalAt = place(goal)
		l.Goal = &goalMark{"missed", "✗", fmt.Sprintf("%.2f", goal)}
		if good {
			l.Goal.Class, l.Goal.Mark = "met", "✓"
		}
	}
	if good, known := r.Good(); known && r.GoalNS > 0 {
		l.Goal = &goalMark{"missed", "✗", fmt.Sprintf("%s, want %s", duration(1e6/r.Ours.Rate.Median), duration(r.GoalNS/1e3))}
		if good {
			l.Goal.Class, l.Goal.Mark = "met", "✓"
		}
	}
	for _, peer := range r.Peers {
		if peer.Ratio != nil {
			l.Peers = append(l.Peers, mark{At: place(r.better(peer.Ratio.Median)), Name: peer.Name, Text: twoDigits(r.better(peer.Ratio.Median))})
		}
	}
	return l
}

// figure draws the sides of a result on one scale: rates, or p50 and p99.
func (r *Result) figure() figureLine {
	l := figureLine{Path: r.Path, Variant: r.Variant, Unit: "messages per second"}
	type one struct {
		class, name string
		f           *Figures
	}
	all := []one{{"ours", "", r.Ours}, {"raw", "", r.Raw}}
	for i := range r.Peers {
		all = append(all, one{"peer", r.Peers[i].Name + " ", r.Peers[i].Figures})
	}
	values := func(f *Figures) []*Spread {
		if f == nil {
			return nil
		}
		if r.Latency && f.P50 != nil {
			return []*Spread{f.P50, f.P99}
		}
		return []*Spread{&f.Rate}
	}
	most := 0.0
	for _, o := range all {
		for _, s := range values(o.f) {
			most = max(most, s.Max)
		}
	}
	if most <= 0 {
		return l
	}
	at := func(v float64) float64 { return math.Round(v/most*1000) / 10 }
	if r.Latency {
		// From a microsecond, in logarithms: p99 would dwarf p50.
		l.Unit = "p50, then p99; less is better, logarithmic from 10 µs"
		at = func(v float64) float64 { return math.Round(max(0, math.Log(v/10)/math.Log(most/10))*1000) / 10 }
	}
	for _, o := range all {
		for _, s := range values(o.f) {
			text := short(s.Median) + "/s"
			if r.Latency {
				text = duration(s.Median)
			}
			l.Bars = append(l.Bars, bar{Class: o.class, Text: o.name + text, Width: at(s.Median), From: at(s.Min), To: at(s.Max), Span: s.Max > s.Min})
		}
	}
	return l
}
