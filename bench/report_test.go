package bench

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"
)

func samples(rates ...int) (all []sample) {
	for _, r := range rates {
		h := newHistogram()
		record(h, time.Second/time.Duration(r))
		all = append(all, sample{count: r, elapsed: time.Second, latency: h, allocs: 3})
	}
	return all
}

func TestSum_takes_medians_and_the_ratios_of_pairs(t *testing.T) {
	r := Result{Goal: 0.85}
	r.sum(samples(100, 400, 200), samples(90, 300, 400))
	if want := (Spread{0.9, 0.75, 2}); r.Ratio == nil || *r.Ratio != want {
		t.Errorf("ratio %v, want %v", r.Ratio, want)
	}
	if want := (Spread{300, 90, 400}); r.Ours.Rate != want {
		t.Errorf("rate %v, want %v", r.Ours.Rate, want)
	}
	if good, known := r.Good(); !good || !known {
		t.Error("the goal was reached")
	}
	slow := Result{Latency: true, Goal: 1.1}
	slow.sum(samples(100), samples(50))
	if slow.Ratio.Median < 1.9 || slow.Ratio.Median > 2.1 {
		t.Errorf("ratio of latencies %v, want 2", slow.Ratio)
	}
	if good, known := slow.Good(); good || !known {
		t.Error("the goal was missed")
	}
}

func TestReport_reads_back_and_compares(t *testing.T) {
	report := func(rates ...int) *Report {
		r := &Report{Rounds: 3, Size: 1024, Results: []Result{{Path: PathSend, Transport: "mem", Variant: "1 caller"}, {Path: PathRequest, Transport: "mem", Error: "broke"}}}
		r.Results[0].sum(samples(100, 100, 100), samples(rates...))
		return r
	}
	b, err := json.Marshal(report(50, 60, 70))
	if err != nil {
		t.Fatal(err)
	}
	var old Report
	if err := json.Unmarshal(b, &old); err != nil {
		t.Fatal(err)
	}
	for want, now := range map[string]*Report{"better": report(80, 81, 82), "worse": report(1, 2, 3), "within the spread": report(60, 61, 62)} {
		var text strings.Builder
		if err := WriteComparison(&text, &old, now); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(text.String(), want) || !strings.Contains(text.String(), "0.60") {
			t.Errorf("want %q in:\n%s", want, &text)
		}
	}
	var text strings.Builder
	if err := report(50, 60, 70).WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"ratio", "0.60", "0.50–0.70", "error: broke"} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("want %q in:\n%s", part, &text)
		}
	}
}

func TestOpenLoop_stamps_the_schedule_and_not_the_sending(t *testing.T) {
	var mu sync.Mutex
	var due []int64
	w := work{count: 200, rate: 10_000, size: 100}
	block := make(chan struct{})
	first := true
	err := openLoop(context.Background(), w, func(_ context.Context, body []byte) error {
		mu.Lock()
		held := first
		first = false
		due = append(due, stampOf(body))
		if len(due) == w.count {
			close(block)
		}
		mu.Unlock()
		if held {
			<-block // the others go on
		}
		return nil
	})
	if err != nil || len(due) != w.count {
		t.Fatalf("%d sent, %v", len(due), err)
	}
	low, high := due[0], due[0]
	for _, d := range due {
		low, high = min(low, d), max(high, d)
	}
	if want := int64(w.count-1) * int64(100*time.Microsecond); high-low != want {
		t.Errorf("schedule spans %v, want %v", time.Duration(high-low), time.Duration(want))
	}
}

func TestList_names_what_run_would_measure(t *testing.T) {
	all, err := List(Options{Transports: []string{"all"}, Callers: []int{1}})
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(all, "\n")
	for _, part := range []string{"send\tmem\t1 caller", "request\tnats\t1 caller, durable", "json\tmem", "receive\tfile"} {
		if !strings.Contains(text, part) {
			t.Errorf("want %q in:\n%s", part, text)
		}
	}
	for _, o := range []Options{{Paths: []string{"x"}}, {Transports: []string{"x"}}, {Callers: []int{0}}, {Rounds: -1}, {Seconds: -1}, {Size: 1 << 30}} {
		if _, err := List(o); err == nil {
			t.Errorf("%+v is no error", o)
		}
	}
}

func TestReport_is_a_page_that_needs_nothing_else(t *testing.T) {
	r := &Report{Rounds: 3, Size: 1024, Results: []Result{
		{Path: PathSend, Transport: "nats", Variant: "1 caller <b>", Goal: 0.8, Server: "nats-server 2"},
		{Path: PathE2E, Transport: "nats", Variant: "at 1000/s", Latency: true, Goal: 1.1},
		{Path: PathRequest, Transport: "nats", Error: "broke"}}}
	r.Results[0].sum(samples(100, 100, 100), samples(50, 60, 70))
	r.Results[0].Peers = []PeerResult{{Name: "another", Ratio: &Spread{0.3, 0.2, 0.4}, Figures: r.Results[0].Raw}}
	r.Results[1].sum(samples(100, 100, 100), samples(110, 120, 130))
	var text strings.Builder
	if err := r.WriteHTML(&text); err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"<h2>nats</h2>", "0.60", "✗ 0.80", "1 caller &lt;b&gt;", "✓ 0.91", "another", "broke", "<svg"} {
		if !strings.Contains(text.String(), part) {
			t.Errorf("want %q in the page", part)
		}
	}
	for _, part := range []string{"http:", "https:", "<script", "ZgotmplZ", "NaN"} {
		if strings.Contains(text.String(), part) {
			t.Errorf("the page has %q", part)
		}
	}
}

func TestReport_goes_into_a_document(t *testing.T) {
	r := &Report{Rounds: 3, Results: []Result{{Path: PathSend, Transport: "nats", Variant: "1 caller"}, {Path: PathSend, Transport: "mem", Variant: "1 caller"}}}
	for i := range r.Results {
		r.Results[i].sum(samples(100, 100, 100), samples(50, 60, 70))
	}
	text := r.intoMarkdown("before\n\n<!-- figures: nats -->\nold\n<!-- figures end -->\n\nafter\n")
	for _, part := range []string{"before\n", "\nafter\n", "| send, 1 caller | 0.60 | 0.50–0.70 |", "<!-- figures: mem -->"} {
		if !strings.Contains(text, part) {
			t.Errorf("want %q in:\n%s", part, text)
		}
	}
	if strings.Contains(text, "old") {
		t.Errorf("the old figures are still there:\n%s", text)
	}
	if again := r.intoMarkdown(text); again != text {
		t.Errorf("written again it differs:\n%s\nfrom\n%s", again, text)
	}
}
