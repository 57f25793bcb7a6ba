package natsbus

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

var (
	ackProgress = []byte("+WPI")
	ackNak      = []byte("-NAK")
	ackTerm     = []byte("+TERM")
)

// Settle publishes acknowledgements and waits until the server has taken them
// in: it takes in a consumer's in the order in which they come, so the last of
// a batch is answered for all. Deliveries whose lease ran out, whose partition
// was lost or which were given back are named in a *driver.StaleError. So are
// those of which an earlier call published the acknowledgement and had no answer.
func (r *receiver) Settle(ctx context.Context, settlements []driver.Settlement) error {
	if len(settlements) == 0 {
		return nil
	}
	doing := "settle for " + r.s.Group + " of channel " + r.s.Channel.Name
	link := r.c.watchLink()
	if err := r.c.ready(); err != nil {
		return err
	}
	answers := make(countFlight, len(r.sources))
	token := r.c.acks.open(answers)
	defer r.c.acks.close(token)
	acks, asked, stale, err := r.acknowledge(settlements, r.c.acks.prefix+token)
	if err == nil {
		err = r.confirmed(ctx, doing, answers, asked, link)
	} else {
		err = translate(doing, err)
	}
	if err != nil {
		r.doubt(acks)
		return err
	}
	if len(stale) > 0 {
		return &driver.StaleError{Indexes: stale}
	}
	return nil
}

// confirmed waits for so many answers of the server.
func (r *receiver) confirmed(ctx context.Context, doing string, answers countFlight, asked int, link linkWatch) error {
	ctx, cancel := r.c.deadline(ctx)
	defer cancel()
	for asked > 0 {
		select {
		case <-answers:
			asked--
		case <-link.event:
			if err := link.ended(doing, "$JS.ACK."+r.stream+"."); err != nil {
				return err
			}
		case <-ctx.Done():
			return translate(doing, ctx.Err())
		}
	}
	return nil
}

// doubt takes note that the server may or may not have these acknowledgements:
// who settles the deliveries again is told that they are stale, since the server
// may deliver their messages again.
func (r *receiver) doubt(acks []acknowledgement) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range acks {
		a.rc.lost = a.rc.done
	}
}

// An acknowledgement is what is to be said to the server of a delivery.
type acknowledgement struct {
	rc     *receipt
	body   []byte
	answer bool // the server is asked to answer it
}

// acknowledge publishes settlements, the last for each source with reply as
// where to answer. It returns the acknowledgements, how many answers are to come,
// and the settlements that came too late. After an error, those that were
// published are done.
func (r *receiver) acknowledge(settlements []driver.Settlement, reply string) (acks []acknowledgement, asked int, stale []int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	acks, stale, err = r.acknowledgements(settlements, now)
	if err != nil || r.closed {
		return nil, 0, stale, err
	}
	answered := make([]bool, len(r.sources))
	for n := range acks { // from the last, to find where answers are wanted
		a := &acks[len(acks)-1-n]
		if k := a.rc.src.index; !answered[k] {
			answered[k], a.answer = true, true
		}
	}
	for _, a := range acks {
		if a.answer {
			err = r.c.nc.PublishRequest(a.rc.reply, reply, a.body)
			asked++
		} else {
			err = r.c.nc.Publish(a.rc.reply, a.body)
		}
		if err != nil {
			return acks, 0, nil, err
		}
		a.rc.src.held.remove(a.rc)
		a.rc.done = true
	}
	// Without a Receive that waits, the next one asks: there may be none.
	if r.active.Load() {
		if err := r.pull(now); err != nil {
			return acks, 0, nil, err
		}
	}
	if len(r.backlog) > 0 {
		r.kick() // there is room
	}
	return acks, asked, stale, nil
}

// acknowledgements are what settlements mean in the server's words, without
// those of deliveries that are not ours or no longer.
func (r *receiver) acknowledgements(settlements []driver.Settlement, now time.Time) (acks []acknowledgement, stale []int, err error) {
	acks = make([]acknowledgement, 0, len(settlements))
	for i := range settlements {
		s := &settlements[i]
		rc, ok := s.Delivery.Receipt.(*receipt)
		switch {
		case !ok, rc.r == r && (rc.done && !rc.lost || rc.settling):
			continue
		case rc.r != r, rc.lost, r.closed: // Close gave it back, or its lease ends
			stale = append(stale, i)
			continue
		}
		var body []byte
		switch s.Outcome {
		case driver.Ack: // an empty acknowledgement
		case driver.Retry:
			if now.After(rc.until) {
				// The server has given it to another, or is about to.
				rc.src.held.remove(rc)
				rc.drop()
				stale = append(stale, i)
				continue
			}
			body = ackNak
			if s.After > 0 {
				r.delays.add(rc.seq, now.Add(s.After), now)
				body = strconv.AppendInt([]byte(`-NAK {"delay":`), int64(s.After), 10)
				body = append(body, '}')
			}
		case driver.Reject:
			body = ackTerm
		default:
			return nil, nil, fmt.Errorf("natsbus: outcome %d is unknown: use Ack, Retry or Reject", s.Outcome)
		}
		rc.settling = true
		acks = append(acks, acknowledgement{rc: rc, body: body})
	}
	for _, a := range acks {
		a.rc.settling = false // it kept one from being settled twice in a batch
	}
	return acks, stale, nil
}

// Extend begins the leases of deliveries again.
func (r *receiver) Extend(ctx context.Context, deliveries []*driver.Delivery) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil
	}
	if err := r.c.ready(); err != nil {
		return err
	}
	until := time.Now().Add(r.lease - r.margin())
	for _, d := range deliveries {
		rc, ok := d.Receipt.(*receipt)
		if !ok || rc.r != r || rc.done {
			continue
		}
		if err := r.c.nc.Publish(rc.reply, ackProgress); err != nil {
			return translate("extend for "+r.s.Group+" of channel "+r.s.Channel.Name, err)
		}
		rc.until = until
	}
	for _, src := range r.sources {
		for _, reply := range src.aside {
			if err := r.c.nc.Publish(reply, ackProgress); err != nil {
				return translate("extend for "+r.s.Group+" of channel "+r.s.Channel.Name, err)
			}
		}
	}
	return nil
}
