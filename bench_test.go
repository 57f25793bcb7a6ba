package dovetail_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"testing"

	"github.com/dovetail-go/dovetail"
)

// through sends b.N messages in batches through a service with three
// middlewares and waits until the handler has counted them all.
func through[T any](b *testing.B, contract dovetail.Event[T], value func(n int) T) {
	b.Helper()
	pass := func(next dovetail.Handler) dovetail.Handler {
		return func(ctx context.Context, in *dovetail.Delivery) error { return next(ctx, in) }
	}
	svc, err := dovetail.Open(b.Context(), "bench", "mem:", dovetail.Options{
		Logger:     slog.New(slog.DiscardHandler),
		Middleware: []dovetail.Middleware{pass, pass, pass},
	})
	if err != nil {
		b.Fatal(err)
	}
	svc.Declare(contract)
	seen, all := 0, make(chan struct{})
	contract.Subscribe(svc, func(context.Context, T) error {
		if seen++; seen == b.N {
			close(all)
		}
		return nil
	}, dovetail.Concurrency(1))
	ctx, cancel := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func() { ended <- svc.Run(ctx) }()
	<-svc.Ready()
	batch := make([]T, 0, 256)
	b.ReportAllocs()
	b.ResetTimer()
	for n := 0; n < b.N; {
		batch = batch[:0]
		for ; n < b.N && len(batch) < cap(batch); n++ {
			batch = append(batch, value(n))
		}
		if err := contract.PublishAll(ctx, svc, batch); err != nil {
			b.Fatal(err)
		}
	}
	<-all
	b.StopTimer()
	cancel()
	if err := <-ended; err != nil {
		b.Fatal(err)
	}
}

// Goal: at most 600 ns and 6 allocations for a message.
func BenchmarkMemory_bytes(b *testing.B) {
	body := make([]byte, 1024)
	through(b, dovetail.NewEvent[[]byte]("bench.raw"), func(int) []byte { return body })
}

func BenchmarkMemory_bytes_keyed(b *testing.B) {
	keys := make([][]byte, 100)
	for i := range keys {
		keys[i] = append([]byte(strconv.Itoa(1000+i)), make([]byte, 1020)...)
	}
	through(b, dovetail.NewEvent[[]byte]("bench.keyed").Keyed(func(v []byte) string { return string(v[:4]) }),
		func(n int) []byte { return keys[n%100] })
}

type order struct {
	ID    string  `json:"id"`
	Lines []line  `json:"lines"`
	Total float64 `json:"total"`
}

type line struct {
	SKU   string  `json:"sku"`
	Text  string  `json:"text"`
	Count int     `json:"count"`
	Price float64 `json:"price"`
}

func someOrder(n int) order {
	o := order{ID: strconv.Itoa(n)}
	for i := range 10 {
		o.Lines = append(o.Lines, line{"85123A", "WHITE HANGING HEART T-LIGHT HOLDER", i, 2.55})
	}
	return o
}

// Goal: at least 0.85 of what JSON alone reaches, both ways, over a Go channel.
func BenchmarkMemory_json(b *testing.B) {
	o := someOrder(1)
	through(b, dovetail.NewEvent[order]("bench.json"), func(int) order { return o })
}

func BenchmarkMemory_json_raw(b *testing.B) {
	o := someOrder(1)
	c, all := make(chan []byte, 256), make(chan struct{})
	go func() {
		for body := range c {
			var v order
			if err := json.Unmarshal(body, &v); err != nil {
				b.Error(err)
			}
		}
		close(all)
	}()
	b.ReportAllocs()
	for b.Loop() {
		body, err := json.Marshal(o)
		if err != nil {
			b.Fatal(err)
		}
		c <- body
	}
	close(c)
	<-all
}
