package servers

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// A FailOver does for a PostgreSQL pair what Patroni and its like do in
// production, with the same rules: a primary that is gone is fenced and the
// standby promoted, if commits waited for the standby up to then; a primary whose
// standby is gone goes on alone; once a standby follows again, commits wait for it
// again. Set its fields before Run.
type FailOver struct {
	Pair  *Cluster
	After time.Duration     // how long a node must not answer until it is given up; a question may take as long
	Say   func(text string) // is told what is done, by Run's goroutine

	mu     sync.Mutex
	lead   *Server
	paired bool
}

const watchEvery = 200 * time.Millisecond

// State returns the primary, nil before it is known, and whether its commits wait
// for the standby, which can be promoted then. It may be called at any time.
func (f *FailOver) State() (lead *Server, paired bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lead, f.paired
}

func (f *FailOver) set(lead *Server, paired bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lead, f.paired = lead, paired
}

// Run watches until ctx ends.
func (f *FailOver) Run(ctx context.Context) {
	// When the primary last answered as one, and when the standby last got what the
	// primary writes, or could not because there was none.
	good := map[*Server]time.Time{}
	for _, s := range f.Pair.nodes {
		good[s] = time.Now()
	}
	waits := 0    // how often in a row commits were seen to wait
	armed := true // commits may wait, also for a standby that is not there
	for wait := time.NewTicker(watchEvery); ; {
		select {
		case <-ctx.Done():
			wait.Stop()
			return
		case <-wait.C:
		}
		lead, paired := f.State()
		now := f.look(ctx)
		for s, is := range now {
			// Also where somebody else has promoted it: the old one is fenced then.
			if is == leading && (lead == nil || now[lead] != leading) {
				lead, waits, armed = s, 0, true
				f.set(lead, false)
				good[s] = time.Now()
			}
			if s == lead && is == leading || s != lead && (is == following || is == lagging && now[lead] != leading) {
				good[s] = time.Now()
			}
		}
		if ctx.Err() != nil || lead == nil {
			continue
		}
		other := f.other(lead)
		switch gone := func(s *Server) bool { return time.Since(good[s]) > f.After }; {
		case now[lead] == leading && now[other] == following:
			if paired {
				continue
			}
			armed = true
			// The setting may not have been in force yet the first time.
			if !f.pair(ctx) {
				waits = 0
			} else if waits++; waits > 1 {
				f.set(lead, true)
				f.Say("commits wait for " + other.Name())
			}
		case now[lead] == leading && gone(other) && armed:
			f.set(lead, false)
			err := f.ask(ctx, lead, aloneSQL, reloadSQL)
			waits, armed = 0, err != nil
			f.Say(fmt.Sprintf("%s is gone: %s goes on alone: %v", other.Name(), lead.Name(), err))
		case now[lead] == silent && gone(lead) && paired && now[other] != silent:
			err := f.Pair.Promote(ctx, other)
			f.Say(fmt.Sprintf("%s is gone: %s is promoted: %v", lead.Name(), other.Name(), err))
			if err == nil {
				waits, armed = 0, false
				f.set(other, false)
				good[other] = time.Now()
			}
		}
	}
}

func (f *FailOver) pair(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, f.After)
	defer cancel()
	ok, err := f.Pair.Pair(ctx)
	return ok && err == nil
}

func (f *FailOver) ask(ctx context.Context, s *Server, statements ...string) error {
	ctx, cancel := context.WithTimeout(ctx, f.After)
	defer cancel()
	return tell(ctx, &s.in, statements...)
}

func (f *FailOver) other(s *Server) *Server {
	if f.Pair.nodes[0] == s {
		return f.Pair.nodes[1]
	}
	return f.Pair.nodes[0]
}

// What a node says of itself.
type saying int

const (
	silent saying = iota
	leading
	lagging   // a standby that gets nothing
	following // a standby that gets what its primary writes
)

// look asks both nodes at once.
func (f *FailOver) look(ctx context.Context) map[*Server]saying {
	all := make([]saying, len(f.Pair.nodes))
	ctx, cancel := context.WithTimeout(ctx, f.After)
	defer cancel()
	var asking sync.WaitGroup
	for i, s := range f.Pair.nodes {
		asking.Go(func() {
			answer, _, err := postgresAsk(ctx, &s.in, `SELECT CASE WHEN NOT pg_is_in_recovery() THEN 'leads'
				WHEN EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming') THEN 'follows' ELSE 'lags' END`)
			switch {
			case err != nil:
			case answer == "leads":
				all[i] = leading
			case answer == "follows":
				all[i] = following
			default:
				all[i] = lagging
			}
		})
	}
	asking.Wait()
	now := map[*Server]saying{}
	for i, s := range f.Pair.nodes {
		now[s] = all[i]
	}
	return now
}
