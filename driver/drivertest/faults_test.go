package drivertest_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
)

func TestMain(m *testing.M) {
	if a := os.Args; len(a) == 6 && a[1] == isProgram {
		if err := program(context.Background(), a[3], a[4], a[5], a[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(drivertest.Main(m).Run())
}

// shakyHarness is a shaky engine whose links send as send does.
func shakyHarness(t *testing.T, send sender) drivertest.Harness {
	e := newShaky(t, send)
	return drivertest.Harness{
		Open:    e.open,
		Restart: e.restart,
		URL:     "file:" + e.dir + "?sync=os",
		Through: e.through,
		Addr:    e.echo.Addr().String(),
		Full: func(ctx context.Context) (driver.Conn, error) {
			c, err := e.open(ctx)
			return &choosy{Conn: c}, err
		},
		Many: 1000,
	}
}

func TestFaults_passes_an_engine_that_survives_them(t *testing.T) {
	t.Setenv("DOVETAIL_FAULT_PERIOD", "5s")
	drivertest.Faults(t, shakyHarness(t, driver.Conn.Send))
}

// A sender is a Send with a defect.
type sender func(driver.Conn, context.Context, []*driver.Message) error

// A defect is one of what links send.
type defect struct {
	caught string   // in these words
	only   []string // by these scenarios; by all where empty
	send   sender
}

// The scenarios, each of which must find each of these defects, or some one.
var (
	scenarios = []string{"Server_killed_in_mid_stream_loses_and_inverts_nothing", "Link_cut_again_and_again_loses_and_inverts_nothing",
		"Link_half_open_again_and_again_loses_and_inverts_nothing", "Process_killed_again_and_again_loses_and_inverts_nothing",
		"Owner_with_a_half_open_link_is_succeeded", "Owners_change_every_second_and_keep_the_order", "Owners_share_the_partitions",
		"Full_channel_refuses_in_mid_stream_and_inverts_nothing", "Link_the_server_does_not_miss_loses_and_inverts_nothing"}

	defects = map[string]defect{
		"sends everything twice": {caught: "claim to be the first attempt", send: sendTwice,
			only: []string{"Process_killed_again_and_again_loses_and_inverts_nothing", "Owners_change_every_second_and_keep_the_order"}},
		"loses the last of a batch": {caught: "were sent and not handled", send: loseLast},
		"sends half of the replies elsewhere": {caught: "in vain for: all replies", only: []string{"Replies_come_over_the_link_after_one_the_server_does_not_miss"},
			send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
				if m := ms[0]; m.Transient && strings.HasPrefix(m.Channel, "reply.") && strings.HasSuffix(m.ID, "1") {
					return nil
				}
				return c.Send(ctx, ms)
			}},
		"sends a batch backwards": {caught: "out of order", send: sendBackwards},
		"invents a message": {caught: "handled and not sent like that", send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
			made := *ms[0]
			made.Key, made.ID = "made-up", ms[0].ID+"/made-up"
			return c.Send(ctx, append(slices.Clone(ms), &made))
		}},
		"changes a message": {caught: "handled and not sent like that", send: func(c driver.Conn, ctx context.Context, ms []*driver.Message) error {
			changed := *ms[0]
			changed.Body = []byte("0" + string(changed.Body))
			return c.Send(ctx, append([]*driver.Message{&changed}, ms[1:]...))
		}},
	}
)

// TestDefect is what TestFaults_finds_every_defect runs in a process of its own.
func TestDefect(t *testing.T) {
	d, ok := defects[os.Getenv(mutantVariable)]
	if !ok {
		return
	}
	h := shakyHarness(t, d.send)
	h.Patience = 8 * time.Second
	drivertest.Faults(t, h)
}

func TestFaults_finds_every_defect(t *testing.T) {
	for name, m := range defects {
		t.Run(strings.ReplaceAll(name, " ", "_"), func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDefect$", "-test.parallel=8", "-test.timeout=120s")
			cmd.Env = append(os.Environ(), mutantVariable+"="+name, "DOVETAIL_FAULT_PERIOD=2s")
			out, err := cmd.CombinedOutput()
			must, passed := m.only, []string(nil)
			if must == nil {
				must = scenarios
			}
			for _, scenario := range must {
				_, said, failed := strings.Cut(string(out), "--- FAIL: TestDefect/"+scenario)
				if said, _, _ = strings.Cut(said, "--- FAIL"); !failed || !strings.Contains(said, m.caught) {
					passed = append(passed, scenario)
				}
			}
			if err == nil || len(passed) > 0 {
				t.Errorf("an engine that %s passed %v: %v\n%s", name, passed, err, out)
			}
		})
	}
}
