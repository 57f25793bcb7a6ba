package filebus

import (
	"container/heap"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// maxTaken bounds the bytes of one Receive; the first message is always taken.
const maxTaken = 8 << 20

// largePayload is from how many bytes on a message is large.
const largePayload = 4 << 10

// errDamaged is the fault of what cannot be read.
var errDamaged = errors.New("the log is damaged here")

// A slot is a delivery with all that belongs to it. Slots are allocated in blocks,
// and whoever holds one holds its block; those of large messages are alone.
type slot struct {
	delivery driver.Delivery
	message  driver.Message
	item     item
}

// fetch appends to ds, up to n, what the log holds for the partitions that are
// owned, in the order of the log.
func (r *receiver) fetch(ds []*driver.Delivery, n int) ([]*driver.Delivery, error) {
	m, err := r.marks.read()
	if err != nil {
		return ds, err
	}
	if err := r.rewind(m); err != nil || r.rd.f == nil {
		return ds, err
	}
	var block []slot
	for bytes := 0; len(ds) < n && bytes < maxTaken; {
		at := r.rd.position()
		rec, err := r.rd.next(m)
		if err == io.EOF {
			break
		}
		if err != nil {
			return ds, err
		}
		if r.rd.entered {
			r.recount()
		}
		if rec.damage || rec.partition >= len(r.parts) {
			rec.partition = int(rec.seq % uint64(len(r.parts)))
			rec.damage = true
		}
		p := r.parts[rec.partition]
		if p == nil || p.revoking || p.stalled {
			continue
		}
		size := len(rec.payload) + len(r.ch.meta.Name)
		if !rec.removed && !rec.damage && !r.fits(size) {
			r.rd.off, r.rd.seq = rec.off, rec.seq // read again once there is room
			break
		}
		var it *item
		fresh := false
		if rec.seq < p.next.seq {
			if it = p.meet(rec.seq); it == nil {
				continue
			}
			if rec.removed {
				p.settle(it)
				continue
			}
		} else {
			p.meet(math.MaxUint64)
			if p.unsettled() >= maxOpen {
				p.stalled, p.next = true, at
				continue
			}
			p.next = r.rd.position()
			if !rec.damage {
				p.taken++
			}
			if rec.removed {
				continue
			}
		}
		var s *slot
		if len(rec.payload) >= largePayload {
			s = new(slot)
			if it == nil {
				it, fresh = new(item), true // it stays until it is settled, the message need not
			}
		} else {
			if len(block) == 0 {
				block = make([]slot, min(n-len(ds), 32))
			}
			s, block = &block[0], block[1:]
			if it == nil {
				it, fresh = &s.item, true
			}
		}
		if fresh {
			it.p = p
			p.open = append(p.open, it)
			p.refill = len(p.open)
		}
		it.pos, it.size = position{seq: rec.seq, base: r.rd.base, off: rec.off}, size
		r.handed(it)
		r.fill(s, it, rec)
		ds = append(ds, &s.delivery)
		bytes += len(rec.payload)
	}
	return ds, nil
}

// fill makes a delivery of a record.
func (r *receiver) fill(s *slot, it *item, rec record) {
	s.message.Channel = r.ch.meta.Name
	s.delivery = driver.Delivery{Message: &s.message, Attempt: it.attempts, Partition: it.p.id, Receipt: it}
	switch {
	case rec.damage:
		s.message.Body = append([]byte(nil), rec.payload...)
		s.delivery.Fault = fmt.Errorf("%w: %d messages from number %d on are lost, segment %020d.seg at byte %d", errDamaged, rec.lost, rec.seq, it.pos.base, rec.off)
		it.kept, it.fault = s.message.Clone(), s.delivery.Fault
	case !rec.soundPayload(rec.payload):
		s.message.Body = append([]byte(nil), rec.payload...)
		s.delivery.Fault = fmt.Errorf("%w: message %d has a wrong checksum, segment %020d.seg at byte %d", errDamaged, rec.seq, it.pos.base, rec.off)
	default:
		if err := decodeMessage(rec.payload, &s.message); err != nil {
			s.message = driver.Message{Channel: r.ch.meta.Name, Body: append([]byte(nil), rec.payload...)}
			s.delivery.Fault = fmt.Errorf("message %d, segment %020d.seg at byte %d: %w", rec.seq, it.pos.base, rec.off, err)
		} else if text := driver.Foreign(&s.message); text != &s.message {
			s.message = *text
		}
	}
}

// takeRetries hands out again what is due.
func (r *receiver) takeRetries(n int) (ds []*driver.Delivery, err error) {
	now := time.Now()
	for len(ds) < n {
		it := r.retries.top()
		if it == nil || it.due.After(now) || !r.fits(it.size) {
			break
		}
		heap.Pop(&r.retries)
		if it.p.revoking {
			continue // its successor gets it
		}
		rec, err := r.read(it)
		if err != nil {
			heap.Push(&r.retries, it)
			return ds, err
		}
		if rec.removed {
			it.p.settle(it)
			continue
		}
		s := new(slot)
		r.handed(it)
		if it.kept != nil {
			s.message = *it.kept.Clone()
			s.delivery = driver.Delivery{Message: &s.message, Attempt: it.attempts, Partition: it.p.id, Receipt: it, Fault: it.fault}
		} else {
			r.fill(s, it, rec)
		}
		ds = append(ds, &s.delivery)
	}
	return ds, nil
}

// read reads the record of an item that was handed out before. The message
// itself is not kept: it belongs to whoever it was delivered to.
func (r *receiver) read(it *item) (record, error) {
	if it.kept != nil {
		return record{damage: true}, nil
	}
	return readAt(&r.again, it.pos)
}

// catchUp moves what the partitions have read on to where the reader is:
// nothing of theirs was in between.
func (r *receiver) catchUp() {
	if r.rd.f == nil {
		return
	}
	for _, p := range r.parts {
		if p == nil || p.fresh || p.stalled || p.revoking || p.next.seq > r.rd.seq {
			continue
		}
		p.next = r.rd.position()
		p.meet(math.MaxUint64) // what was taken over and is not in the log
	}
}

// rewind moves the reader back to where the partitions that were taken over, or
// had stalled, have to go on.
func (r *receiver) rewind(m *mark) error {
	var from position
	found := false
	for _, p := range r.parts {
		if p != nil && p.fresh && (!found || p.from.seq < from.seq) {
			from, found = p.from, true
		}
	}
	if !found {
		return nil
	}
	if r.rd.f == nil || from.seq < r.rd.seq {
		r.catchUp()
		if err := r.rd.seek(from, m); err != nil {
			r.rd.close()
			return err
		}
	}
	for _, p := range r.parts {
		if p != nil {
			p.fresh = false
		}
	}
	return nil
}

// recount sets how many messages of each partition were taken from what the
// segment that was just entered says. It differs only after damage.
func (r *receiver) recount() {
	r.rd.entered = false
	for i, p := range r.parts {
		if p != nil && !p.stalled && !p.revoking && p.next.seq <= r.rd.base {
			p.taken = r.rd.counts[i]
		}
	}
}
