package bench

import (
	"context"
	"encoding/json"
	"errors"
	"strconv"
	"time"

	"github.com/dovetail-go/dovetail"
)

// An invoice is a typed body of about 700 bytes as JSON.
type invoice struct {
	ID    string  `json:"id"`
	Lines []entry `json:"lines"`
	Total float64 `json:"total"`
}

type entry struct {
	SKU   string  `json:"sku"`
	Text  string  `json:"text"`
	Count int     `json:"count"`
	Price float64 `json:"price"`
}

func someInvoice() invoice {
	v := invoice{ID: "536365", Total: 139.12}
	for i := range 10 {
		v.Lines = append(v.Lines, entry{"85123" + strconv.Itoa(i), "WHITE HANGING HEART T-LIGHT HOLDER", i, 2.55})
	}
	return v
}

// typedJSON encodes and decodes values on the way through memory, against JSON
// and a Go channel alone.
func typedJSON(ctx context.Context, t *target, s side, w work) (sample, error) {
	if o, ok := s.(*ours); ok {
		return o.typed(ctx, w)
	}
	return w.measured(func() (sample, error) {
		c, failed := make(chan []byte, memoryBuffer), error(nil)
		done := sink(c, func(b []byte) {
			var v invoice
			if err := json.Unmarshal(b, &v); err != nil {
				failed = err
			}
		})
		v := someInvoice()
		begin := time.Now()
		for n := range w.count {
			b, err := json.Marshal(v)
			if err != nil {
				failed = err
				break
			}
			c <- b
			if n&255 == 255 {
				w.tick(256)
			}
		}
		close(c)
		<-done
		return sample{count: w.count, elapsed: time.Since(begin)}, failed
	})
}

func (o *ours) typed(ctx context.Context, w work) (s sample, err error) {
	from, to, err := o.pair(ctx)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, from.leave(), to.leave(w.channel)) }()
	doc := dovetail.NewDocument[invoice](w.channel)
	a := newArrival(w)
	// One consumer, as the raw side has: more would use the other cores.
	doc.Handle(to.Service, func(context.Context, invoice) error { a.add(); return nil }, dovetail.Concurrency(1))
	from.Declare(doc)
	if err := to.start(ctx); err != nil {
		return s, err
	}
	values := make([]invoice, min(w.batch, 256))
	for i := range values {
		values[i] = someInvoice()
	}
	return w.measured(func() (sample, error) {
		begin := time.Now()
		for n := 0; n < w.count; {
			batch := values[:min(len(values), w.count-n)]
			if err := doc.SendAll(ctx, from.Service, batch); err != nil {
				return sample{}, err
			}
			n += len(batch)
		}
		if err := a.wait(ctx); err != nil {
			return sample{}, err
		}
		return sample{count: w.count, elapsed: time.Since(begin)}, nil
	})
}
