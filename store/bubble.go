package store

import (
	"errors"
	"time"
)

// ErrBubble: a database that is reached over a network was used where time is
// that of a test's bubble.
var ErrBubble = errors.New("the clock here is that of a test's bubble (testing/synctest, dovetailtest.Run), which stands still while a server's answer is under way: " +
	"run the test with dovetailtest.RunLive, or call the handler by itself, with a transaction and a dovetailtest.Recorder")

// started is when the process did: outside of any bubble.
var started = time.Now().Round(0)

// Networked returns ErrBubble inside of a bubble, where a program that waits for
// a server hangs until its test's time-out. Stores that reach their database over
// a network call it when they are opened, and when they begin a transaction, take
// a lease or listen. A bubble's clock begins in the year 2000.
func Networked() error {
	if time.Now().Round(0).Before(started.AddDate(-1, 0, 0)) {
		return ErrBubble
	}
	return nil
}
