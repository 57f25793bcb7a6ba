package bench

import (
	"runtime"
	"syscall"
	"time"
)

// A pacer waits for points in time more exactly than a Go timer does, which on
// an idle processor may come a millisecond late (the runtime waits in
// epoll_wait, whose time-out is in milliseconds). That would be most of what an
// open loop measures.
type pacer struct{}

const setTimerSlack = 29 // PR_SET_TIMERSLACK, prctl(2): 50 µs unless told otherwise

// newPacer binds the goroutine to a thread of its own until stop.
func newPacer() pacer {
	runtime.LockOSThread()
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0) // without it, it is 50 µs less exact
	return pacer{}
}

func (pacer) stop() { runtime.UnlockOSThread() }

// wait waits for d, which is short.
func (pacer) wait(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil) // interrupted by a signal, it comes early: the caller looks at the clock
}
