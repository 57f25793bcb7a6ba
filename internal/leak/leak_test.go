package leak

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// recorder stands in for a *testing.T whose failure is what the test wants.
type recorder struct {
	cleanups []func()
	errors   []string
}

func (r *recorder) Helper()                   {}
func (r *recorder) Cleanup(f func())          { r.cleanups = append(r.cleanups, f) }
func (r *recorder) Errorf(f string, a ...any) { r.errors = append(r.errors, fmt.Sprintf(f, a...)) }

func TestCheck_waits_for_goroutines_that_are_ending(t *testing.T) {
	r := &recorder{}
	Check(r)
	stop := make(chan struct{})
	go func() { <-stop }()
	time.AfterFunc(20*time.Millisecond, func() { close(stop) })
	r.cleanups[0]()
	if len(r.errors) != 0 {
		t.Fatalf("reported a goroutine that ended: %s", r.errors)
	}
}

func TestWait_names_a_goroutine_that_stays(t *testing.T) {
	before := map[string]bool{}
	for _, g := range goroutines() {
		before[g.id] = true
	}
	stop := make(chan struct{})
	defer close(stop)
	go stay(stop)
	left := wait(before, 10*time.Millisecond)
	if len(left) != 1 || !strings.Contains(describe(left), "leak.stay") {
		t.Fatalf("got %s, want the goroutine of stay", describe(left))
	}
}

func stay(stop chan struct{}) { <-stop }

func TestMain(m *testing.M) {
	if code := Main(m); code != 0 {
		panic(fmt.Sprintf("exit code %d", code))
	}
}
