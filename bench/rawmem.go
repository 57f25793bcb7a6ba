package bench

import (
	"context"
	"time"
)

// rawMemory is a Go channel.
type rawMemory struct{}

const memoryBuffer = 1024

func (rawMemory) close(context.Context) error { return nil }

// sink receives until c is closed.
func sink(c <-chan []byte, see func([]byte)) (done chan struct{}) {
	done = make(chan struct{})
	go func() {
		defer close(done)
		for b := range c {
			see(b)
		}
	}()
	return done
}

// send puts messages into a channel that has room for all.
func (rawMemory) send(ctx context.Context, w work) (sample, error) {
	return w.measured(func() (sample, error) { return feed(ctx, w, make(chan []byte, w.count)) })
}

func feed(ctx context.Context, w work, c chan<- []byte) (sample, error) {
	ring := bodies(w.size)
	if w.callers > 0 {
		return timed(ctx, w, func(_ context.Context, n int) error { c <- ring[n%len(ring)]; return nil })
	}
	begin := time.Now()
	for n := range w.count {
		c <- ring[n%len(ring)]
		if n&1023 == 1023 {
			w.tick(1024)
		}
	}
	return sample{count: w.count, elapsed: time.Since(begin)}, nil
}

func (rawMemory) receive(ctx context.Context, w work) (sample, error) {
	c := make(chan []byte, w.count)
	fill := w
	fill.callers, fill.tick = 0, func(int) {}
	if _, err := feed(ctx, fill, c); err != nil {
		return sample{}, err
	}
	close(c)
	a := newArrival(w)
	return w.measured(func() (sample, error) {
		<-sink(c, func([]byte) { a.add() })
		return a.between(), nil
	})
}

func (rawMemory) flow(ctx context.Context, w work) (sample, error) {
	return w.measured(func() (sample, error) {
		c := make(chan []byte, memoryBuffer)
		a := newArrival(w)
		done := sink(c, func([]byte) { a.add() })
		begin := time.Now()
		sending := w
		sending.tick = func(int) {}
		_, err := feed(ctx, sending, c)
		close(c)
		<-done
		return sample{count: w.count, elapsed: time.Since(begin)}, err
	})
}

func (rawMemory) latency(ctx context.Context, w work) (sample, error) {
	return w.measured(func() (sample, error) {
		c := make(chan []byte, memoryBuffer)
		watch := newStopwatch(w)
		done := sink(c, watch.see)
		err := openLoop(ctx, w, func(_ context.Context, body []byte) error { c <- body; return nil })
		close(c)
		<-done
		return watch.sample(), err
	})
}

// request asks over one channel and is answered over another of the caller's
// own.
func (rawMemory) request(ctx context.Context, w work) (sample, error) {
	type ask struct {
		body  []byte
		reply chan []byte
	}
	asks := make(chan ask)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for a := range asks {
			a.reply <- a.body
		}
	}()
	ring := bodies(w.size)
	s, err := w.measured(func() (sample, error) {
		return timed(ctx, w, func(_ context.Context, n int) error {
			a := ask{ring[n%len(ring)], make(chan []byte, 1)}
			asks <- a
			<-a.reply
			return nil
		})
	})
	close(asks)
	<-done
	return s, err
}
