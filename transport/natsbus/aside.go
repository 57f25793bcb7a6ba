package natsbus

import "github.com/dovetail-go/dovetail/driver"

// asides are deliveries that were set aside: where to acknowledge each, by its
// sequence in the stream.
type asides map[uint64]string

// has reports whether the message of a delivery was set aside. It takes note where
// to acknowledge it now.
func (a asides) has(seq uint64, reply string) bool {
	if _, ok := a[seq]; !ok {
		return false
	}
	a[seq] = reply
	return true
}

// Widen raises the window, as driver.Widener has it.
func (r *receiver) Widen(aside []*driver.Delivery) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, d := range aside {
		rc, ok := d.Receipt.(*receipt)
		if !ok || rc.r != r || rc.done {
			continue
		}
		rc.done = true // the core does not settle it
		rc.src.held.remove(rc)
		if rc.src.aside == nil {
			rc.src.aside = asides{}
		}
		rc.src.aside[rc.seq] = rc.reply
	}
	r.kick()
}
