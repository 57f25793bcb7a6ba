package natsbus_test

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"sync"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/servers"
)

// BenchmarkSend_one_key has callers wait for messages of one key on a real server.
// The processor time of a message is the same however many wait.
func BenchmarkSend_one_key(b *testing.B) {
	url := servers.Shared(b, servers.NATS).URL() + "?partitions=8"
	hot := dovetail.NewCommand[string]("bench.hot").Keyed(func(string) string { return "hot" })
	for _, callers := range []int{16, 1024, 16384} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			svc, err := dovetail.Open(b.Context(), "bench", url)
			if err != nil {
				b.Fatal(err)
			}
			defer svc.Close(b.Context())
			svc.Declare(hot)
			if err := hot.Send(b.Context(), svc, "first"); err != nil {
				b.Fatal(err)
			}
			begin := make(chan struct{})
			var sending, ready sync.WaitGroup
			ready.Add(callers)
			for c := range callers {
				n := b.N / callers
				if c < b.N%callers {
					n++
				}
				sending.Go(func() {
					ready.Done()
					<-begin
					for range n {
						if err := hot.Send(b.Context(), svc, "hello"); err != nil {
							b.Error(err)
						}
					}
				})
			}
			ready.Wait()
			b.ResetTimer()
			from := processorTime(b)
			close(begin)
			sending.Wait()
			b.ReportMetric(float64(processorTime(b)-from)/float64(b.N), "cpu-ns/op")
		})
	}
}

func processorTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
