package drivertest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/internal/leak"
)

// Harness is what the suite needs to know of a transport. Open is always
// required. Every other function, and URL, is required where the capabilities do
// not say that it does not apply: Restart where Durable is declared, URL and
// Through where Shared is, the others always. A test that needs one that is not
// there fails, unless KnownGaps says why there can be none.
type Harness struct {
	// Open opens a new connection to the engine under test. All connections
	// of one Harness reach the same engine and see the same channels. The suite
	// closes what it opened.
	Open func(ctx context.Context) (driver.Conn, error)

	// Restart kills the engine (not politely) and starts it again with what it
	// had on disk.
	Restart func(ctx context.Context) error

	// Forget makes the engine lose every channel and group while it runs.
	Forget func(ctx context.Context) error

	// Inject puts a message into a channel as a program that knows nothing of
	// Dovetail would: these headers and this body, no attributes. The headers'
	// values may be any bytes; one that the engine cannot carry is
	// driver.ErrUnsupported.
	Inject func(ctx context.Context, channel string, headers driver.Headers, body []byte) error

	// InjectKeyed is Inject with the engine's own key of a message, in bytes.
	InjectKeyed func(ctx context.Context, channel string, key []byte, headers driver.Headers, body []byte) error

	// Trim makes the engine delete all messages that a channel holds, whoever
	// has not handled them, as its retention would.
	Trim func(ctx context.Context, channel string) error

	// Crash ends a connection as the death of its process would: without
	// handing anything back. nil lets the suite use Close with a context that
	// has ended already.
	Crash func(c driver.Conn) error

	// URL is what driver.Open reaches the engine by in another process, with
	// leases or sessions as short as those of Open. Faults kills processes that
	// consume, and processes send in Run; TestMain has to call Main.
	URL string

	// Through opens a connection that reaches the engine by way of a proxy at
	// addr, whatever addresses the engine tells it of. Its calls should give a
	// silent link up within seconds. Addr is where the proxy goes on to, the
	// host and port that the engine listens on.
	Through func(ctx context.Context, addr string) (driver.Conn, error)
	Addr    string

	// Full opens a connection that provisions channels with little room: for
	// less than a hundred messages of some bytes, of five hundred where
	// OrderedBatch or OrderedPipeline is declared. Sends beyond it are refused
	// until something is handled.
	Full func(ctx context.Context) (driver.Conn, error)

	// InProcess says that the engine runs in the test's process, so that its
	// memory cannot be told from the client's.
	InProcess bool

	// Cumulative says that the transport acknowledges prefixes only, so that
	// after a take-over messages that were settled beyond the first unsettled
	// one may come again. Without it that is a failure.
	Cumulative bool

	// Patience bounds every single wait; 0 for 20 s. Take-over after a Crash
	// must happen within it.
	Patience time.Duration

	// Quiet is how long the suite watches before it believes that nothing
	// comes; 0 for 150 ms.
	Quiet time.Duration

	// Lease is the shortest lease that the transport works well with, for the
	// tests in which one runs out; 0 for 1 s.
	Lease time.Duration

	// Many is the size of the large batch; 0 for 10,000. With -short it is at
	// most 1,000.
	Many int

	// KnownGaps names tests that the transport is known to fail, and fields of
	// Harness that it cannot have, as in "Trim", with the reason, as it stands in
	// its documentation. The tests, and those that need the fields, are skipped
	// and listed.
	KnownGaps map[string]string
}

func (h Harness) withDefaults() Harness {
	if h.Patience == 0 {
		h.Patience = 20 * time.Second
	}
	if h.Quiet == 0 {
		h.Quiet = 150 * time.Millisecond
	}
	if h.Lease == 0 {
		h.Lease = time.Second
	}
	if h.Many == 0 {
		h.Many = 10_000
	}
	if testing.Short() {
		h.Many = min(h.Many, 1000)
	}
	return h
}

// A test is one entry of the suite.
type test struct {
	run func(*env)

	// gap says why the test does not apply to a transport, or "" if it does.
	// With verify set, a gap is not skipped: verify shows that it is refused.
	gap    func(driver.Capabilities, Harness) string
	verify func(*env)

	// beside says that it leaves the engine to others, and takes its time: it
	// runs in parallel with others like it, after those that do not.
	beside bool
}

// noHook begins the gap of a test that needs a field of Harness.
const noHook = "the harness has no "

// hooks are the fields of Harness that a test may need.
var hooks = []string{"Restart", "Forget", "Inject", "InjectKeyed", "Trim", "URL", "Through", "Full"}

// suites are filled by the files of the package, one subject each.
var suites = []map[string]test{
	roundtripTests, sendTests, sizeTests, orderTests, takeoverTests, settleTests, groupTests, windowTests, lifecycleTests, topologyTests,
	delayTests, browseTests, failureTests,
	broadcastTests, prefetchTests, quickTests, samekeyTests, classifyTests, identityTests, attemptsTests,
	undrainedTests, contextTests, handoverTests, foreignTests, retentionTests, staleTests, settleAgainTests, widenTests, transientTests, strangersTests, sharerTests,
}

// Run runs the whole suite against the engine of h, each test as a subtest by
// name. It fails when a test leaves goroutines behind.
func Run(t *testing.T, h Harness) { run(t, h, suites...) }

func run(t *testing.T, h Harness, of ...map[string]test) {
	if h.Open == nil {
		t.Fatal("drivertest: Harness.Open is required: set it to a function that connects to the engine under test")
	}
	leak.Check(t) // those that run beside each other are told from what is not theirs at the end
	h = h.withDefaults()
	caps := capabilities(t, h)
	tests := map[string]test{}
	for _, s := range of {
		for name, tt := range s {
			if _, twice := tests[name]; twice {
				t.Fatalf("drivertest: two tests are called %s", name)
			}
			tests[name] = tt
		}
	}
	for name := range h.KnownGaps {
		if !slices.Contains(hooks, name) && !slices.ContainsFunc(append(suites, faultTests), func(s map[string]test) bool { _, ok := s[name]; return ok }) {
			t.Errorf("drivertest: Harness.KnownGaps names %q, which is neither a test of the suite nor a field of Harness: want one of %v, or a test's name", name, hooks)
		}
	}
	gaps := &gapTable{}
	t.Cleanup(func() { gaps.log(t, caps) })
	for _, name := range slices.Sorted(maps.Keys(tests)) {
		tt := tests[name]
		t.Run(name, func(t *testing.T) {
			if why, ok := h.KnownGaps[name]; ok {
				gaps.add(name, "known: "+why)
				t.Skip("known gap: " + why)
			}
			run := tt.run
			if tt.gap != nil {
				why := tt.gap(caps, h)
				if hook, lacks := strings.CutPrefix(why, noHook); lacks {
					known, ok := h.KnownGaps[hook]
					if !ok {
						t.Fatalf("drivertest: Harness.%s is not set: set it, or say in Harness.KnownGaps[%q] why there can be none", hook, hook)
					}
					why = why + ": " + known
				}
				if why != "" {
					if tt.verify == nil {
						gaps.add(name, why)
						t.Skip("declared gap: " + why)
					}
					gaps.add(name, why+" (verified: refused)")
					run = tt.verify
				}
			}
			if tt.beside {
				t.Parallel()
			} else {
				leak.Check(t)
			}
			run(newEnv(t, h, caps, gaps, name))
		})
	}
}

// CheckLeaks reports goroutines that are still running when t and the cleanups
// registered after this call have ended and that were not running before it.
// It is for the other tests of a transport; Run does it for its own.
func CheckLeaks(t testing.TB) { leak.Check(t) }

func capabilities(t *testing.T, h Harness) driver.Capabilities {
	ctx, cancel := context.WithTimeout(context.Background(), h.Patience)
	defer cancel()
	c, err := h.Open(ctx)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer func() {
		if err := c.Close(ctx); err != nil {
			t.Errorf("close: %v", err)
		}
	}()
	return c.Capabilities()
}

// gapTable collects what was not tested, and why.
type gapTable struct {
	mu   sync.Mutex
	rows []string
}

func (g *gapTable) add(test, why string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rows = append(g.rows, fmt.Sprintf("  %-58s %s", test, why))
}

func (g *gapTable) log(t *testing.T, caps driver.Capabilities) {
	if len(g.rows) > 0 {
		t.Logf("gaps of %s: %d\n%s", caps.Name, len(g.rows), strings.Join(g.rows, "\n"))
	}
}
