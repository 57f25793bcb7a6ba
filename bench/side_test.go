package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"
)

var serial atomic.Int64

// most bounds a round by what it takes in memory and on the disk.
const most = 200_000

// beside runs a path with b.N messages on each side of each transport, for
// profiles and quick looks:
//
//	go test -run '^$' -bench 'Receive/nats/dovetail' -cpuprofile cpu.out ./bench
func beside(b *testing.B, path string, callers int, do func(context.Context, side, work) (sample, error)) {
	for _, name := range []string{"mem", "embedded", "nats", "file", "rabbitmq", "kafka"} {
		b.Run(name, func(b *testing.B) {
			t, err := openTarget(b.Context(), name, b.TempDir(), false)
			if err != nil {
				b.Fatal(err)
			}
			defer func() {
				if err := t.close(context.Background()); err != nil {
					b.Error(err)
				}
			}()
			for i, s := range []side{t.raw, t.ours} {
				b.Run([]string{"raw", "dovetail"}[i], func(b *testing.B) {
					w := work{channel: fmt.Sprintf("bench.%s-%d", path, serial.Add(1)), size: 1024, count: min(max(b.N, 2), most),
						callers: callers, batch: 1000, rate: 1000, tick: func(int) {}}
					got, err := do(b.Context(), s, w)
					if errors.Is(err, errAbsent) {
						b.Skip("nothing to compare with")
					}
					if err != nil {
						b.Fatal(err)
					}
					b.ReportMetric(float64(got.elapsed)/float64(got.count), "ns/op")
					b.ReportMetric(got.allocs, "allocs/msg")
					b.ReportMetric(got.cpu, "cpu-ns/msg")
					if got.latency != nil {
						for _, q := range []float64{50, 99} {
							b.ReportMetric(float64(got.latency.ValueAtQuantile(q))/float64(time.Microsecond), fmt.Sprintf("p%g-µs", q))
						}
					}
				})
			}
		})
	}
}

func BenchmarkSend_batches(b *testing.B) {
	beside(b, "send", 0, func(ctx context.Context, s side, w work) (sample, error) { return s.send(ctx, w) })
}

func BenchmarkSend_64_callers(b *testing.B) {
	beside(b, "send", 64, func(ctx context.Context, s side, w work) (sample, error) { return s.send(ctx, w) })
}

func BenchmarkReceive(b *testing.B) {
	beside(b, "receive", 0, func(ctx context.Context, s side, w work) (sample, error) { return s.receive(ctx, w) })
}

func BenchmarkFlow(b *testing.B) {
	beside(b, "flow", 0, func(ctx context.Context, s side, w work) (sample, error) { return s.flow(ctx, w) })
}

func BenchmarkRequest_1_caller(b *testing.B) {
	beside(b, "request", 1, func(ctx context.Context, s side, w work) (sample, error) { return s.request(ctx, w) })
}

func BenchmarkRequest_64_callers(b *testing.B) {
	beside(b, "request", 64, func(ctx context.Context, s side, w work) (sample, error) { return s.request(ctx, w) })
}
