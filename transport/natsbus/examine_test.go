package natsbus

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What real servers tell, cluster_test.go sees. Here is what is made of it.
func TestExamine_tells_who_is_away_and_what_has_no_leader(t *testing.T) {
	with := func(leader string, replicas ...*jetstream.PeerInfo) *jetstream.ClusterInfo {
		return &jetstream.ClusterInfo{Leader: leader, Replicas: replicas}
	}
	well := &jetstream.PeerInfo{Name: "b", Current: true, Active: time.Second}
	for name, c := range map[string]struct {
		cluster *jetstream.ClusterInfo
		want    []string // subject and problem of each
	}{
		"alone":           {nil, nil},
		"well":            {with("a", well), nil},
		"a moment behind": {with("a", well, &jetstream.PeerInfo{Name: "c", Active: time.Second}), nil},
		"silent for long": {with("a", well, &jetstream.PeerInfo{Name: "c", Active: time.Minute}), []string{"server c is away, or does not answer, and has replicas"}},
		"away":            {with("a", well, &jetstream.PeerInfo{Name: "c", Offline: true, Current: true}), []string{"server c is away, or does not answer, and has replicas"}},
		"no leader":       {with("", well), []string{"streams or consumers without a leader nothing can be sent there or received"}},
	} {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			var e examination
			e.look("stream orders", c.cluster)
			var got []string
			for _, f := range e.findings() {
				got = append(got, f.Subject+" "+f.Problem)
				if !slices.Equal(f.Concerns, []string{"stream orders"}) || f.Remedy == "" || f.Stops != strings.Contains(f.Problem, "nothing") {
					t.Errorf("it finds %+v", f)
				}
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("it finds %q, want %q", got, c.want)
			}
		})
	}
}
