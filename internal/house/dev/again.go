package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// mostAgain is how many packages are run again; when more have failed, that is no
// accident.
const mostAgain = 3

// runAgain runs each package that failed once more, by itself, so that a reader
// of the output knows whether it fails always or only beside others. The run
// has failed in either case (decision 0015). A package that does not build is
// left out.
func (res *results) runAgain(ctx context.Context, r *repo, timeout time.Duration, env []string) {
	names := res.toRunAgain()
	if len(names) == 0 {
		return
	}
	fmt.Fprintf(res.out, "\nonce more, each by itself: %s\n", strings.Join(names, ", "))
	for _, name := range names {
		if ctx.Err() != nil {
			return
		}
		second := resultsOf(res.out, res.modules)
		err := goTest(ctx, r, second, timeout, env, "-count=1", name)
		res.noteAgain(name, err == nil && second.total().failed == 0)
	}
}

func (res *results) toRunAgain() (names []string) {
	res.mu.Lock()
	defer res.mu.Unlock()
	if len(res.sick) > mostAgain {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(res.sick)) {
		if len(res.sick[name].failed) > 0 {
			names = append(names, name)
		}
	}
	return names
}

// noteAgain remembers how the second run of a package ended.
func (res *results) noteAgain(name string, passed bool) {
	how := "fails again"
	if passed {
		how = "passes by itself"
	}
	res.again = append(res.again, name+": "+how)
}
