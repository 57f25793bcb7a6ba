// Package crash names the places at which a test kills its own process, to see
// what a crash there loses or repeats.
package crash

import "sync/atomic"

var hook atomic.Pointer[func(point string)]

// Point is passed by the program at the named place. Without a test that asked
// for it, it does nothing.
func Point(name string) {
	if h := hook.Load(); h != nil {
		(*h)(name)
	}
}

// At has f called with the name of each point that is passed.
func At(f func(point string)) { hook.Store(&f) }
