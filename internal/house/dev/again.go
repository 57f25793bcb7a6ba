package main

import (
	"maps"
	"slices"
	"strings"
)

// mostAgain is how many packages are run again; when more have failed, that is no
// accident.
const mostAgain = 3

// takeAgain returns the packages that failed and may be run once more, each by
// itself, and forgets what they counted for. Tests that kill processes and
// restart servers beside others on two cores fail now and then for want of time.
// What fails twice fails; what does not is told apart in the end, by name. A data
// race is never an accident, and neither is what does not build.
func (res *results) takeAgain() (packages []string) {
	res.mu.Lock()
	defer res.mu.Unlock()
	if len(res.sick) > mostAgain {
		return nil
	}
	for _, name := range slices.Sorted(maps.Keys(res.sick)) {
		p := res.sick[name]
		if len(p.failed) == 0 || p.raced() {
			continue
		}
		var tests []string
		for _, f := range p.failed {
			tests = append(tests, f.test)
		}
		res.again = append(res.again, name+" ("+strings.Join(tests, ", ")+")")
		res.failed = slices.DeleteFunc(res.failed, func(f string) bool { return strings.HasPrefix(f, name+" ") })
		res.tallies[res.moduleOf(name)].sub(p.sum)
		res.done--
		delete(res.sick, name)
		packages = append(packages, name)
	}
	return packages
}

func (p *pkg) raced() bool {
	const race = "DATA RACE"
	return strings.Contains(p.other.String(), race) ||
		slices.ContainsFunc(p.failed, func(f failure) bool { return strings.Contains(f.output, race) })
}
