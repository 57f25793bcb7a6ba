package filebus

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

const (
	// balanceEvery is how often a receiver looks for members that died and for
	// partitions that became free.
	balanceEvery = 200 * time.Millisecond
	// balanceSoon is how often it looks first while it has less than its share.
	balanceSoon = 5 * time.Millisecond
	retainEvery = 10 * time.Second
)

// join makes us a member: a file that is locked as long as we live. Its name
// sorts members by their age, so that a newcomer changes nobody's share but by
// making it smaller.
func (r *receiver) join() error {
	name := fmt.Sprintf("%020d-%.12s", time.Now().UnixNano(), rand.Text())
	dir := filepath.Join(r.group.dir, "members")
	f, err := openFile(filepath.Join(dir, "."+name), os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	r.member = f
	step("member made")
	// It gets its name once it is locked; before, it would be taken for dead.
	ok, err := tryLock(f)
	if err == nil && !ok {
		err = errors.New("new member file is locked by somebody else")
	}
	if err == nil {
		err = os.Rename(f.Name(), filepath.Join(dir, name))
	}
	step("joined")
	return err
}

func (r *receiver) memberName() string { return filepath.Base(r.member.Name())[1:] }

// leave removes what only we needed.
func (r *receiver) leave() error {
	err := os.Remove(filepath.Join(r.group.dir, "members", r.memberName()))
	if errors.Is(err, os.ErrNotExist) {
		err = nil // the group was removed
	}
	return err
}

// liveMembers returns the names of a group's members, the oldest first, and
// removes the files of those that died. self needs no check.
func liveMembers(groupDir, self string) ([]string, error) {
	dir := filepath.Join(groupDir, "members")
	names, err := listDir(dir)
	if err != nil {
		return nil, err
	}
	slices.Sort(names)
	return slices.DeleteFunc(names, func(name string) bool {
		if name == self {
			return false
		}
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR, 0)
		if err != nil {
			return true
		}
		defer f.Close()
		dead, err := tryLock(f)
		if dead {
			os.Remove(f.Name())
		}
		return dead && err == nil
	}), nil
}

func anyMember(groupDir string) (bool, error) {
	names, err := liveMembers(groupDir, "")
	return len(names) > 0, err
}

// balance keeps our share of partitions until the receiver is closed.
func (r *receiver) balance() {
	pause := balanceSoon
	retained := time.Now()
	base := noBase
	for {
		changed := r.c.members.wait()
		short, err := r.rebalance()
		if err != nil {
			r.mu.Lock()
			r.err = err
			r.mu.Unlock()
			r.signal()
		}
		pause = min(balanceEvery, pause*3/2)
		if !short {
			pause = balanceEvery
		}
		r.mu.Lock()
		at := r.rd.base
		r.mu.Unlock()
		if at != base || time.Since(retained) > retainEvery {
			base, retained = at, time.Now()
			r.ch.retain()
		}
		timer := time.NewTimer(pause)
		select {
		case <-r.done:
			timer.Stop()
			return
		case <-changed:
			pause = balanceSoon
		case <-timer.C:
		}
		timer.Stop()
	}
}

// rebalance takes free partitions up to our share, begins to hand over those
// beyond it, and reports whether we have less than our share. Shares are the
// same for all but for one partition, which the older members have more. All
// members see the same files, so that their shares add up to all partitions.
func (r *receiver) rebalance() (short bool, err error) {
	self := r.memberName()
	names, err := liveMembers(r.group.dir, self)
	if err != nil {
		return false, err
	}
	rank := slices.Index(names, self)
	if rank < 0 || unlinked(r.cursors) || unlinked(r.markF) {
		return false, errGone
	}
	share := len(r.parts) / len(names)
	if rank < len(r.parts)%len(names) {
		share++
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false, nil
	}
	r.catchUp()
	have := 0
	for _, p := range r.parts {
		if p == nil || p.revoking {
			continue
		}
		have++
		if p.next.seq > p.written {
			p.dirty = true
		}
	}
	if err := r.persist(); err != nil {
		return false, err
	}
	switch {
	case have > share:
		err = r.revoke(have - share)
	case have < share:
		have, err = r.acquire(have, share, rank)
	}
	return have < share, err
}

// acquire takes free partitions, beginning where the other members do not.
func (r *receiver) acquire(have, share, rank int) (int, error) {
	for i := range r.parts {
		id := (i + rank*share) % len(r.parts)
		if have == share {
			break
		}
		if r.parts[id] != nil {
			continue
		}
		ok, err := tryLock(r.owners[id])
		if err != nil {
			return have, err
		}
		if !ok {
			continue
		}
		p := &part{id: id, lock: r.owners[id]}
		if err := p.load(r.cursors, &r.group.meta, r.ch.fromOldest); err != nil {
			unlock(p.lock)
			return have, err
		}
		r.parts[id] = p
		have++
		r.signal()
	}
	return have, nil
}

// revoke begins to hand over n partitions, those first that have least in hand.
// Each goes once its deliveries are settled or the core has released it.
func (r *receiver) revoke(n int) error {
	var give []*part
	for _, p := range r.parts {
		if p != nil && !p.revoking {
			give = append(give, p)
		}
	}
	slices.SortStableFunc(give, func(a, b *part) int { return a.inHand - b.inHand })
	var ids []int
	var err error
	for _, p := range give[:n] {
		p.revoking = true
		if p.inHand == 0 {
			err = errors.Join(err, r.release(p))
			continue
		}
		ids = append(ids, p.id)
	}
	if len(ids) == 0 {
		return err
	}
	select {
	case old := <-r.revoked: // not looked at yet
		ids = append(old, ids...)
	default:
	}
	r.revoked <- ids
	return err
}

// release hands a partition over. What is in hand of it becomes the
// successor's, which gets it first.
func (r *receiver) release(p *part) error {
	err := p.persist(r.cursors, &r.scratch)
	p.lost = true
	r.inHand -= p.inHand
	r.size -= p.size
	r.parts[p.id] = nil
	step("released")
	return errors.Join(err, unlock(p.lock))
}

// Revoked returns the channel of partitions that are to be handed over. It is
// closed with the receiver.
func (r *receiver) Revoked() <-chan []int { return r.revoked }

// Release hands partitions over, with what is in hand of them. Those that are
// not ours any more are passed over.
func (r *receiver) Release(ctx context.Context, partitions []int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return fmt.Errorf("release: %w", driver.ErrClosed)
	}
	var err error
	for _, id := range partitions {
		if id >= 0 && id < len(r.parts) && r.parts[id] != nil {
			err = errors.Join(err, r.release(r.parts[id]))
		}
	}
	r.signal()
	return explain(err)
}
