package filebus

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

const (
	benchBody  = 1 << 10
	benchBatch = 500
)

func benchMessages(n int) []*driver.Message {
	ms := make([]*driver.Message, n)
	for i := range ms {
		ms[i] = &driver.Message{Channel: "orders", ID: "0197f2a1-0000-7000-8000-" + strconv.Itoa(100000+i), Source: "bench",
			Type: "bench.sent.v1", Time: time.Now(), ContentType: "application/json", Key: "k" + strconv.Itoa(i%64), Body: make([]byte, benchBody)}
	}
	return ms
}

// BenchmarkSend compares a batch of 500 with what the disk does: the same bytes
// appended with one write and one fdatasync. The two take turns, in one file
// system; ratio is the median of the raw times over the median of ours.
func BenchmarkSend(b *testing.B) {
	for _, sync := range []Sync{SyncAlways, SyncOS} {
		b.Run("sync="+sync.String(), func(b *testing.B) { benchSend(b, sync) })
	}
}

// openSink opens a connection to a channel that nobody listens to, so that the
// disk does not fill.
func openSink(b *testing.B, mode Sync) *Conn {
	bb := newBench(b, Options{Sync: mode})
	c, err := Open(bb.ctx(), bb.opts)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { bb.close(c) })
	if err := c.Provision(bb.ctx(), []driver.Channel{{Name: "orders", Kind: driver.PublishSubscribe}}, nil); err != nil {
		b.Fatal(err)
	}
	return c
}

// rawAppend returns a function that appends data to a file as bare as can be
// and says how long that took. The file begins again every 64 MiB.
func rawAppend(b *testing.B, mode Sync, data []byte) func() float64 {
	f, err := os.Create(filepath.Join(b.TempDir(), "raw"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	size := int64(0)
	return func() float64 {
		began := time.Now()
		if _, err := f.WriteAt(data, size); err != nil {
			b.Fatal(err)
		}
		if mode == SyncAlways {
			if err := syncData(f); err != nil {
				b.Fatal(err)
			}
		}
		took := time.Since(began).Seconds()
		if size += int64(len(data)); size > 64<<20 {
			size = 0
			if err := f.Truncate(0); err != nil {
				b.Fatal(err)
			}
		}
		return took
	}
}

func benchSend(b *testing.B, mode Sync) {
	c := openSink(b, mode)
	ms := benchMessages(benchBatch)
	var data []byte
	for _, m := range ms {
		data = appendRecord(data, m, 0)
	}
	raw := rawAppend(b, mode, data)
	var ours, theirs []float64
	through := func() {
		began := time.Now()
		if err := c.Send(context.Background(), ms); err != nil {
			b.Fatal(err)
		}
		ours = append(ours, time.Since(began).Seconds())
	}
	for b.Loop() { // A B B A: what one leaves to the disk, either has to bear
		theirs = append(theirs, raw())
		through()
		through()
		theirs = append(theirs, raw())
	}
	b.ReportMetric(benchBatch/median(ours), "msg/s")
	b.ReportMetric(benchBatch/median(theirs), "raw-msg/s")
	b.ReportMetric(median(theirs)/median(ours), "ratio")
}

// BenchmarkSend_by_many is 64 callers who send one message each, again and
// again, and share their fsyncs; raw is one caller with an fsync for each.
func BenchmarkSend_by_many(b *testing.B) {
	c := openSink(b, SyncAlways)
	ms := benchMessages(64)
	raw := rawAppend(b, SyncAlways, appendRecord(nil, ms[0], 0))
	var theirs []float64
	for range 200 {
		theirs = append(theirs, raw())
	}
	var next atomic.Int64
	b.SetParallelism(64 / max(1, runtime.GOMAXPROCS(0)))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		mine := ms[next.Add(1)%64:][:1]
		for pb.Next() {
			if err := c.Send(context.Background(), mine); err != nil {
				b.Error(err)
			}
		}
	})
	perSecond := float64(b.N) / b.Elapsed().Seconds()
	b.ReportMetric(perSecond, "msg/s")
	b.ReportMetric(1/median(theirs), "raw-msg/s")
	b.ReportMetric(perSecond*median(theirs), "ratio")
}

func median(v []float64) float64 {
	sort.Float64s(v)
	return v[len(v)/2]
}

// BenchmarkReceive reads and acknowledges a backlog in batches of 500.
func BenchmarkReceive(b *testing.B) {
	bb := newBench(b, Options{Sync: SyncOS})
	c := bb.open()
	ms := benchMessages(benchBatch)
	r := bb.receiver(c)
	defer r.Close(context.Background())
	ctx := context.Background()
	ss := make([]driver.Settlement, 0, benchBatch)
	n := 0
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		if err := c.Send(ctx, ms); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		for got := 0; got < benchBatch; {
			ds, err := r.Receive(ctx, benchBatch)
			if err != nil {
				b.Fatal(err)
			}
			got += len(ds)
			ss = ss[:0]
			for _, d := range ds {
				ss = append(ss, driver.Settlement{Delivery: d})
			}
			if err := r.Settle(ctx, ss); err != nil {
				b.Fatal(err)
			}
		}
		n += benchBatch
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "msg/s")
}

// BenchmarkLatency is from before Send to Receive's return in another
// connection that waits, which is how another process hears of it.
func BenchmarkLatency(b *testing.B) {
	for _, mode := range []Sync{SyncAlways, SyncOS} {
		b.Run("sync="+mode.String(), func(b *testing.B) {
			bb := newBench(b, Options{Sync: mode})
			sender, c := bb.open(), bb.open()
			r := bb.receiver(c)
			ctx := context.Background()
			came := make(chan time.Time)
			var wg sync.WaitGroup
			wg.Go(func() {
				for {
					ds, err := r.Receive(ctx, 1)
					if err != nil {
						return
					}
					came <- time.Now()
					if err := r.Settle(ctx, []driver.Settlement{{Delivery: ds[0]}}); err != nil && !errors.Is(err, driver.ErrClosed) {
						b.Error(err)
					}
				}
			})
			m := benchMessages(1)
			tick := time.NewTicker(time.Millisecond) // between them, the receiver goes back to waiting
			defer tick.Stop()
			var took []float64
			for b.Loop() {
				<-tick.C
				began := time.Now()
				if err := sender.Send(ctx, m); err != nil {
					b.Fatal(err)
				}
				took = append(took, (<-came).Sub(began).Seconds())
			}
			r.Close(ctx)
			wg.Wait()
			b.ReportMetric(median(took)*1e6, "p50-µs")
			b.ReportMetric(took[len(took)*99/100]*1e6, "p99-µs")
		})
	}
}
