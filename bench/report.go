package bench

import (
	"math"
	"slices"
	"time"
)

// A Report is what was measured, and where.
type Report struct {
	Started  time.Time `json:"started"`
	Machine  Machine   `json:"machine"`
	Size     int       `json:"size"`     // bytes of a body
	Rounds   int       `json:"rounds"`   // of each side
	Batch    int       `json:"batch"`    // messages in a batch, and in the raw client's pipeline
	Rate     int       `json:"rate"`     // of the open loop, in messages per second
	Envelope bool      `json:"envelope"` // raw messages carried headers as well
	Results  []Result  `json:"results"`
	Errors   []string  `json:"errors,omitempty"`
}

// Machine is where figures come from: they compare with others of the same.
type Machine struct {
	OS   string `json:"os"`
	Arch string `json:"arch"`
	CPUs int    `json:"cpus"`
	Go   string `json:"go"`
}

// A Result is one line: a path on a transport, both sides.
type Result struct {
	Path      string       `json:"path"`
	Transport string       `json:"transport"`
	Variant   string       `json:"variant"`
	Count     int          `json:"count"` // messages in a round
	Latency   bool         `json:"latency"`
	Ratio     *Spread      `json:"ratio,omitempty"`     // ours to raw: of rates, more is better; of p50 where Latency is set, less is better
	RatioP99  *Spread      `json:"ratio_p99,omitempty"` // the same of p99
	Goal      float64      `json:"goal,omitempty"`      // of Ratio; 0 for none
	GoalNS    float64      `json:"goal_ns,omitempty"`   // of nanoseconds per message; 0 for none
	Ours      *Figures     `json:"dovetail,omitempty"`
	Raw       *Figures     `json:"raw,omitempty"`
	Peers     []PeerResult `json:"peers,omitempty"`
	Server    string       `json:"server,omitempty"` // and its version
	Confirmed string       `json:"confirmed"`        // what a confirmation stands for
	Error     string       `json:"error,omitempty"`
}

// Figures are one side's.
type Figures struct {
	Rate   Spread  `json:"rate"`              // messages per second
	P50    *Spread `json:"p50_us,omitempty"`  // microseconds
	P99    *Spread `json:"p99_us,omitempty"`  // microseconds
	P999   *Spread `json:"p999_us,omitempty"` // microseconds
	Allocs Spread  `json:"allocs"`            // per message, in this process
	CPU    Spread  `json:"cpu_ns"`            // processor time per message, in this process, nanoseconds; 0 where it is not known
	// More is what only some paths have: committed_per_s, what writers
	// committed meanwhile; peak_rss_mib and peak_heap_mib, memory of this
	// process, both sides' clients and the measurement itself included.
	More map[string]Spread `json:"more,omitempty"`
}

// A PeerResult is what another library reached in the same rounds.
type PeerResult struct {
	Name     string   `json:"name"`
	Ratio    *Spread  `json:"ratio,omitempty"` // to raw, as Result.Ratio
	RatioP99 *Spread  `json:"ratio_p99,omitempty"`
	Figures  *Figures `json:"figures,omitempty"`
	Error    string   `json:"error,omitempty"`
}

// A Spread is the median of the rounds, with the least and the most.
type Spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

func newReport(o Options) *Report {
	return &Report{Started: time.Now().UTC().Truncate(time.Second), Machine: machine(), Size: o.Size, Rounds: o.Rounds, Batch: o.Batch, Rate: o.Rate, Envelope: o.Envelope}
}

// Good reports whether the goal was reached, where there is one.
func (r *Result) Good() (good, known bool) {
	if r.GoalNS > 0 && r.Ours != nil {
		return 1e9/r.Ours.Rate.Median <= r.GoalNS, true
	}
	if r.Goal == 0 || r.Ratio == nil {
		return false, false
	}
	if r.Latency {
		return r.Ratio.Median <= r.Goal, true
	}
	return r.Ratio.Median >= r.Goal, true
}

func spreadOf(all []sample, f func(*sample) float64) Spread {
	values := make([]float64, len(all))
	for i := range all {
		values[i] = f(&all[i])
	}
	return spread(values)
}

func spread(values []float64) Spread {
	slices.Sort(values)
	n := len(values)
	median := values[n/2]
	if n%2 == 0 {
		median = (values[n/2-1] + values[n/2]) / 2
	}
	return Spread{rounded(median), rounded(values[0]), rounded(values[n-1])}
}

// rounded keeps four digits: more were never measured.
func rounded(v float64) float64 {
	if v == 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return 0
	}
	scale := math.Pow(10, 3-math.Floor(math.Log10(math.Abs(v))))
	return math.Round(v*scale) / scale
}

func figures(all []sample) *Figures {
	if len(all) == 0 {
		return nil
	}
	f := &Figures{
		Rate:   spreadOf(all, (*sample).rate),
		Allocs: spreadOf(all, func(s *sample) float64 { return s.allocs }),
		CPU:    spreadOf(all, func(s *sample) float64 { return s.cpu }),
	}
	if all[0].latency != nil {
		quantile := func(q float64) *Spread {
			s := spreadOf(all, func(s *sample) float64 { return micros(s, q) })
			return &s
		}
		f.P50, f.P99, f.P999 = quantile(50), quantile(99), quantile(99.9)
	}
	for name := range all[0].more {
		if f.More == nil {
			f.More = map[string]Spread{}
		}
		f.More[name] = spreadOf(all, func(s *sample) float64 { return s.more[name] })
	}
	return f
}

func micros(s *sample, q float64) float64 { return float64(s.latency.ValueAtQuantile(q)) / 1e3 }

// sum fills in the figures; the ratios are those of each round's pair.
func (r *Result) sum(raw, ours []sample) {
	r.Raw, r.Ours = figures(raw), figures(ours)
	if len(raw) == 0 || len(raw) != len(ours) {
		return
	}
	ratio := func(f func(*sample) float64) *Spread {
		values := make([]float64, len(ours))
		for i := range ours {
			values[i] = f(&ours[i]) / f(&raw[i])
		}
		s := spread(values)
		return &s
	}
	if r.Latency {
		r.Ratio = ratio(func(s *sample) float64 { return micros(s, 50) })
		r.RatioP99 = ratio(func(s *sample) float64 { return micros(s, 99) })
		return
	}
	r.Ratio = ratio((*sample).rate)
}
