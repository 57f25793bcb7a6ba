//go:build !linux

package bench

import "time"

// A pacer waits for points in time, as exactly as a Go timer does.
type pacer struct{}

func newPacer() pacer { return pacer{} }

func (pacer) stop() {}

// wait waits for d.
func (pacer) wait(d time.Duration) { <-time.After(d) }
