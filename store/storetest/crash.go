package storetest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/internal/crash"
	"github.com/dovetail-go/dovetail/outbox"
)

// rare are points that take a while to come to.
var rare = names(crash.RelayHeld, crash.RelayMoving, crash.RelayDrained, crash.RelayReleased, crash.RelayPromoting, crash.RelayPromoted,
	crash.RelayRetiring, crash.RelayRetired, crash.RelayRewound, crash.RelayLeased, crash.RelayResumed, crash.RelayLeft)

func names(points ...*crash.Point) (all []string) {
	for _, p := range points {
		all = append(all, p.Name)
	}
	return all
}

// crash kills a writing and publishing process at every named point, starts it
// again on the same database, and in the end compares what was committed with
// what was published.
func (s suite[Tx]) crash(e *env[Tx]) {
	e.killed()
	if j := childJob(); j != nil {
		e.die(*j)
		return
	}
	e.close()
	for i, point := range s.points(crash.Writer, crash.Relay) {
		times := 1
		if i%2 == 1 && !slices.Contains(rare, point) {
			times = 12
		}
		e.child(job{Dir: e.dir, Point: point, Times: times, Seed: uint64(i)})
	}
	e.open()
	e.publishRest()
	e.compare()
}

// killed ends a case that kills processes, where the store outlives none.
func (e *env[Tx]) killed() {
	e.Helper()
	e.needs("Durable", e.h.Durable)
	e.needs("Kill", e.h.KnownGaps["Kill"] == "")
}

// die writes and publishes until the process dies at the job's point.
func (e *env[Tx]) die(j job) {
	crash.KillAt(j.Point, j.Times)
	sick := slices.Contains(names(crash.RelayMoving, crash.RelayHeld), j.Point)
	if !sick { // what is held drains now, and not when its lanes' back-off is over
		_, err := e.DB.RetryHeld(e.ctx, "", "")
		e.must(err)
	}
	svc := newService(e.T, e.dir, j.Point, faults{sick: sick, forgets: j.Point == crash.RelayRewound.Name})
	lease := 200 * time.Millisecond
	if slices.Contains(names(crash.RelayMoving, crash.RelayHeld, crash.RelayDrained, crash.RelayReleased), j.Point) {
		lease = 2 * time.Second // many round trips within a term, on a busy machine
	}
	box := outbox.New(svc, unanswered(e.DB), outbox.Options{Lease: lease, CleanupInterval: 20 * time.Millisecond, Poll: 5 * time.Millisecond,
		CursorInterval: 2 * time.Millisecond, Batch: 16, DrainTimeout: 20 * time.Millisecond})
	ctx, cancel := context.WithTimeout(e.ctx, time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	wg.Go(func() {
		for d := 100 * time.Millisecond; j.Point == crash.RelayLeft.Name && ctx.Err() == nil; d *= 2 {
			relay, cancel := context.WithTimeout(ctx, d) // it ends in the middle of everything
			e.report(svc.component.Run(relay))
			cancel()
		}
		e.report(svc.component.Run(ctx))
	})
	for w := range 3 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(j.Seed, uint64(w)))
			for ctx.Err() == nil {
				e.report(e.countAndSend(ctx, box, r))
			}
		})
	}
	wg.Wait()
	st, err := box.Stats(e.ctx)
	e.Errorf("point %s was not passed %d times: %+v, %v", j.Point, j.Times, st, err)
}

func (e *env[Tx]) report(err error) {
	if err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, errNot) && !strings.Contains(err.Error(), lostAnswer) {
		e.Error(err)
	}
}

var errNot = errors.New("rolled back on purpose")

// countAndSend counts a key up and publishes the number, sometimes delayed
// under another key, and sometimes rolls back.
func (e *env[Tx]) countAndSend(ctx context.Context, box *outbox.Box[Tx], r *rand.Rand) error {
	key := fmt.Sprintf("key-%d", r.IntN(5))
	channel := "stock"
	delayed := r.IntN(6) == 0
	switch {
	case delayed:
		key = fmt.Sprintf("late-%d", r.IntN(2))
	case r.IntN(4) == 0:
		channel, key = "sick", fmt.Sprintf("sick-%d", r.IntN(2))
	}
	return box.Do(ctx, func(ctx context.Context, tx Tx, out dovetail.Sender) error {
		n, err := e.Count(ctx, tx, key)
		if err != nil {
			return err
		}
		m := message(fmt.Sprintf("%s/%d", key, n), channel, key)
		if delayed {
			m.Due = time.Now().Add(time.Duration(r.IntN(5)) * time.Millisecond)
		}
		if err := out.Send(ctx, []*driver.Message{m}); err != nil {
			return err
		}
		if r.IntN(6) == 0 {
			return errNot
		}
		return nil
	})
}

// publishRest runs a relay until nothing is left.
func (e *env[Tx]) publishRest() {
	_, err := e.DB.RetryHeld(e.ctx, "", "")
	e.must(err)
	svc := newService(e.T, e.dir, "the rest", faults{})
	outbox.New(svc, e.DB, outbox.Options{Poll: 5 * time.Millisecond, CursorInterval: time.Millisecond})
	ctx, cancel := context.WithCancel(e.ctx)
	ended := make(chan error, 1)
	go func() { ended <- svc.component.Run(ctx) }()
	for {
		st, err := e.DB.Stats(e.ctx, 0)
		e.must(err)
		if st.Backlog == 0 && st.Later == 0 && st.Held == 0 {
			break
		}
		select {
		case <-svc.sent:
		case <-time.After(20 * time.Millisecond):
		case <-e.ctx.Done():
			e.Fatalf("%v: %+v", e.ctx.Err(), st)
		}
	}
	cancel()
	e.must(<-ended)
}

// compare checks that exactly the committed numbers were published, and those
// that were not delayed in the order of their keys.
func (e *env[Tx]) compare() {
	f, err := os.Open(filepath.Join(e.dir, "broker"))
	e.must(err)
	defer f.Close()
	last := map[string]int64{}
	seen := map[string]bool{}
	copies := 0
	who, by := "", map[string]string{} // which process is at it, and was at it last for a key
	for s := bufio.NewScanner(f); s.Scan(); {
		id := s.Text()
		if process, ok := strings.CutPrefix(id, remark); ok {
			who = process
			continue
		}
		if seen[id] {
			copies++
			continue
		}
		seen[id] = true
		key, number, _ := strings.Cut(id, "/")
		var n int64
		if _, err := fmt.Sscan(number, &n); err != nil {
			e.Fatalf("id %q: %v", id, err)
		}
		if n != last[key]+1 && !strings.HasPrefix(key, "late") {
			e.Errorf("key %s: %d came after %d (from the process that dies at %s, after that at %s)", key, n, last[key], who, by[key])
		}
		by[key] = who
		last[key] = max(last[key], n)
	}
	counts, err := e.Counts(e.ctx)
	e.must(err)
	total := int64(0)
	for key, n := range counts {
		total += n
		for i := range n {
			if id := fmt.Sprintf("%s/%d", key, i+1); !seen[id] {
				e.Errorf("%s was committed and not published", id)
			}
		}
	}
	if total != int64(len(seen)) {
		e.Errorf("%d committed, %d published", total, len(seen))
	}
	if total < 50 {
		e.Errorf("only %d transactions committed: the test shows little", total)
	}
	e.Logf("%d committed and published, %d of them again", total, copies)
}
