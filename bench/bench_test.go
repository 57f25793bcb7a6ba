package bench

import (
	"os"
	"testing"

	"github.com/dovetail-go/dovetail/servers"
)

func TestMain(m *testing.M) {
	if Serve() {
		return
	}
	os.Exit(m.Run())
}

func TestRun_measures_both_sides(t *testing.T) {
	for _, transport := range []string{"mem", "embedded", "nats", "file", "rabbitmq", "kafka", "postgres", "sqlite"} {
		t.Run(transport, func(t *testing.T) {
			if k := kinds[transport]; k != nil {
				if err := servers.Install(t.Context(), k); err != nil {
					t.Fatal(err)
				}
			}
			r, err := Run(t.Context(), Options{Transports: []string{transport}, Count: 200, Rounds: 1, Callers: []int{1, 4}, Rate: 2000, Backlog: 2000, Envelope: transport == "embedded", Dir: t.TempDir()})
			if err != nil {
				t.Fatal(err)
			}
			for _, res := range r.Results {
				if res.Error != "" {
					t.Errorf("%s %s: %s", res.Path, res.Variant, res.Error)
					continue
				}
				if res.Ours == nil || res.Ours.Rate.Median <= 0 {
					t.Errorf("%s %s: nothing measured: %+v", res.Path, res.Variant, res)
				}
				if res.Raw != nil && res.Ratio == nil {
					t.Errorf("%s %s: no ratio", res.Path, res.Variant)
				}
			}
			if len(r.Errors) > 0 {
				t.Error(r.Errors)
			}
		})
	}
}
