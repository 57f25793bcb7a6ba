package dovetail

// Of the scheduler's model, what another instance does that claims keys.

// shareKeys has letters claim their keys.
func (m *schedulerModel) shareKeys() {
	m.others = map[claimID]string{}
	m.s.keys.claims = &claims{s: &Service{opts: Options{Instance: "own"}}, wake: make(chan struct{}, 1),
		own: map[claimID]*claim{}, peers: map[string]*peer{"other": {}}}
}

// claimOrEnd has the other instance claim a key, or end a claim.
func (m *schedulerModel) claimOrEnd() {
	if c := m.s.keys.claims; len(m.others) == 0 || m.rnd.IntN(3) == 0 {
		c.clock++
		m.others[claimID{"other", c.clock}] = []string{"k0", "k1", "k2", "k3", "k4", "k5", "k6"}[m.rnd.IntN(7)]
	} else {
		for id := range m.others {
			delete(m.others, id)
			break
		}
	}
	m.s.claimed("other", m.others)
}

// grantOne has the other instance grant a claim, which it does where none of its
// own is to go before.
func (m *schedulerModel) grantOne() {
	for _, n := range m.s.keys.claims.own {
		first := true
		for id, key := range m.others {
			first = first && (key != n.key || !id.before(n.id))
		}
		if first && !n.granted.Load() {
			n.granted.Store(true)
			m.s.granted(n)
			return
		}
	}
}

// checkKeys finds what another instance was given too early.
func (m *schedulerModel) checkKeys(seed uint64) {
	for key := range m.running {
		if m.s.keys.grantedToOther(key) {
			m.t.Fatalf("seed %d: another instance is given key %s, of which a message is handled", seed, key)
		}
	}
	for key, l := range m.s.lanes {
		for _, f := range m.s.keys.foreign[key] {
			if l.head != nil && l.head.claim != nil && f.granted && l.head.claim.id.before(f.id) {
				m.t.Fatalf("seed %d: another instance is given key %s before this one, which claimed it before", seed, key)
			}
		}
	}
}
