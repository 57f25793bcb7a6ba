package main

import (
	"os"
	"testing"

	"github.com/dovetail-go/dovetail/bench"
)

func TestMain(m *testing.M) {
	if bench.Serve() {
		return
	}
	os.Exit(m.Run())
}

func TestPeers_do_the_same_work(t *testing.T) {
	report, err := bench.Run(t.Context(), bench.Options{
		Transports: []string{"nats"}, Paths: []string{bench.PathSend, bench.PathReceive, bench.PathE2E}, Count: 200, Rounds: 1, Callers: []int{4}, Rate: 1000, Dir: t.TempDir(),
		Peers: []bench.Peer{watermill("default", setting{}), watermill("best", best)},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range report.Results {
		if r.Error != "" || len(r.Peers) != 2 {
			t.Errorf("%s, %s: %s, %d peers", r.Path, r.Variant, r.Error, len(r.Peers))
		}
		for _, p := range r.Peers {
			if p.Error != "" || p.Figures == nil || p.Figures.Rate.Median <= 0 {
				t.Errorf("%s, %s, %s: %s, %+v", r.Path, r.Variant, p.Name, p.Error, p.Figures)
			}
		}
	}
}
