package dovetail

import "slices"

// Several instances may have messages of one key at once: its owner those of the
// channel's partition, and whoever receives it a letter, which comes on a channel
// of its own. So an instance claims the key of a letter before the letter's handler
// begins, and each of the others grants the claim once it handles nothing of the
// key. Until the claim is over it begins nothing of the key. Of two instances that
// claim one key at once, the earlier claim goes first (Ricart and Agrawala, "An
// optimal algorithm for mutual exclusion in computer networks", 1981).
//
// This file is the scheduler's part. The scheduler's mutex guards it.

// A claimID names a claim: whose it is, and when it was made, by a clock that the
// instances keep together (Lamport).
type claimID struct {
	Instance string `json:"instance"`
	Time     uint64 `json:"time"`
}

// before reports whether the claim a goes before b.
func (a claimID) before(b claimID) bool {
	return a.Time < b.Time || a.Time == b.Time && a.Instance < b.Instance
}

// keyLocks is what a scheduler knows of the claims to its keys.
type keyLocks struct {
	claims  *claims // of the service; nil: its keys are not claimed
	of      *groupConsumer
	foreign map[string][]*foreignClaim
}

// A foreignClaim is another instance's claim to a key.
type foreignClaim struct {
	id      claimID
	granted bool
}

// locked has t wait while its key is another instance's, and a letter until its
// own claim is granted, which it makes here.
func (s *scheduler) locked(t *item) bool {
	if s.keys.claims == nil || t.lane == nil {
		return false
	}
	if t.letter && t.sub != nil && t.claim == nil {
		t.claim = s.keys.claims.make(s.keys.of, t.lane.key)
	}
	if !s.keys.grantedToOther(t.lane.key) && t.hasKey() {
		return false
	}
	s.hold(t)
	t.state = itemLocked
	s.signalRoom()
	return true
}

// hasKey reports whether t needs no claim, or its claim is granted.
func (t *item) hasKey() bool { return t.claim == nil || t.claim.granted.Load() }

// grantedToOther reports whether another instance has a key.
func (k *keyLocks) grantedToOther(key string) bool {
	return slices.ContainsFunc(k.foreign[key], func(f *foreignClaim) bool { return f.granted })
}

// unlock lets the first message of a key go on if nothing keeps it any more.
func (s *scheduler) unlock(key string) {
	l := s.lanes[key]
	if l == nil || l.head == nil || l.head.state != itemLocked || s.keys.grantedToOther(key) || !l.head.hasKey() {
		return
	}
	s.unhold(l.head)
	s.makeReady(l.head)
	s.wake()
}

// grant grants what other instances claim of a key, unless something of the key is
// handled here, or is to be before them.
func (s *scheduler) grant(key string) {
	for _, f := range s.keys.foreign[key] {
		l := s.lanes[key]
		if f.granted || l != nil && l.head != nil && (l.head.state == itemRunning || l.head.claim != nil && l.head.claim.id.before(f.id)) {
			continue
		}
		f.granted = true
		s.keys.claims.changed()
	}
}

// grantAll is grant for every key.
func (s *scheduler) grantAll() {
	for key := range s.keys.foreign {
		s.grant(key)
	}
}

// endClaim ends the claim of a letter whose handler does not run any more.
func (s *scheduler) endClaim(t *item) {
	if t.claim != nil {
		s.keys.claims.end(t.claim)
		t.claim = nil
	}
}

// granted is called once a claim of this instance's own is granted.
func (s *scheduler) granted(c *claim) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unlock(c.key)
}

// claimed takes in all that another instance claims now.
func (s *scheduler) claimed(instance string, now map[claimID]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, fs := range s.keys.foreign {
		left := slices.DeleteFunc(fs, func(f *foreignClaim) bool {
			_, lasts := now[f.id]
			return f.id.Instance == instance && !lasts
		})
		if len(left) == len(fs) {
			continue
		}
		if s.keys.foreign[key] = left; len(left) == 0 {
			delete(s.keys.foreign, key)
		}
		s.unlock(key)
	}
	for id, key := range now {
		if s.keys.foreign == nil {
			s.keys.foreign = make(map[string][]*foreignClaim)
		}
		if !slices.ContainsFunc(s.keys.foreign[key], func(f *foreignClaim) bool { return f.id == id }) {
			s.keys.foreign[key] = append(s.keys.foreign[key], &foreignClaim{id: id})
		}
		s.grant(key)
	}
}

// grants are the claims that this instance has granted.
func (s *scheduler) grants() (ids []claimID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, fs := range s.keys.foreign {
		for _, f := range fs {
			if f.granted {
				ids = append(ids, f.id)
			}
		}
	}
	return ids
}
