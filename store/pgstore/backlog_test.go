package pgstore_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/outbox"
)

// backlogVariable says how many rows the backlog of BenchmarkBacklog has.
const backlogVariable = "DOVETAIL_BACKLOG_ROWS"

// peakMemory is the most memory that the process had so far, in MiB, as Linux
// counts it.
func peakMemory(b *testing.B) float64 {
	b.Helper()
	f, err := os.Open("/proc/self/status")
	must(b, err)
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		if text, ok := strings.CutPrefix(s.Text(), "VmHWM:"); ok {
			kb, err := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(text), " kB"), 64)
			must(b, err)
			return kb / 1024
		}
	}
	b.Fatal("no VmHWM")
	return 0
}

// A backlog that gathered while no relay ran, drained to a broker that confirms
// at once: how fast, in its first and last tenth, and with how much memory.
func BenchmarkBacklog(b *testing.B) {
	n := 200_000
	if text := os.Getenv(backlogVariable); text != "" {
		var err error
		n, err = strconv.Atoi(text)
		must(b, err)
	}
	s := benchStore(b)
	sch := schemaOf(b, s)
	ctx := b.Context()
	const part = 250_000
	for i := 0; i < n; i += part {
		_, err := s.Pool().Exec(ctx, fmt.Sprintf(`INSERT INTO %s.dovetail_outbox (shard, id, channel, key, headers, body, reorder)
			SELECT 0, 'backlog-' || n, 'stock', 'key-' || n %% 1000, E'source: catalog\ntype: catalog.counted.v1\ncontent-type: application/json\n\n',
				convert_to(repeat('x', 256), 'UTF8'), false FROM generate_series(%d, %d) n`, sch, i+1, min(i+part, n)))
		must(b, err)
	}
	svc := newStub(int64(n))
	var at []time.Time // of each tenth
	svc.take = func(ms []*driver.Message) {
		if tenth := int64(n) / 10; svc.sent.Load()/tenth != (svc.sent.Load()+int64(len(ms)))/tenth {
			at = append(at, time.Now())
		}
	}
	outbox.New(svc, s, outbox.Options{Retention: time.Hour})
	run, cancel := context.WithCancel(ctx)
	ended := make(chan error)
	b.ResetTimer()
	began := time.Now()
	go func() { ended <- svc.component.Run(run) }()
	<-svc.done
	took := time.Since(began)
	cancel()
	must(b, <-ended)
	for b.Loop() { // it was measured already
	}
	tenth := func(from, to time.Time) float64 { return float64(n) / 10 / to.Sub(from).Seconds() }
	b.ReportMetric(float64(n)/took.Seconds(), "messages/s")
	b.ReportMetric(tenth(began, at[0]), "first-tenth/s")
	b.ReportMetric(tenth(at[len(at)-2], at[len(at)-1]), "last-tenth/s")
	b.ReportMetric(peakMemory(b), "peak-MiB")
	b.ReportMetric(0, "ns/op")
}
