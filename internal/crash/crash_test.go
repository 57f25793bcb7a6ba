package crash_test

import (
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/internal/crash"
)

func TestPoints_have_names_of_their_own(t *testing.T) {
	seen := map[string]bool{}
	for _, part := range []crash.Part{crash.Writer, crash.Relay, crash.Inbox, crash.Consumer} {
		for _, p := range crash.Points(part) {
			if seen[p.Name] || !strings.HasPrefix(p.Name, string(part)+".") {
				t.Errorf("%s of %s", p.Name, part)
			}
			seen[p.Name] = true
		}
	}
	if len(seen) < 30 {
		t.Errorf("%d points", len(seen))
	}
}

func TestAt_sees_what_is_passed(t *testing.T) {
	var seen []string
	crash.At(func(p *crash.Point) { seen = append(seen, p.Name) })
	defer crash.At(nil)
	crash.WriterBegun.Pass()
	crash.RelaySent.Pass()
	crash.At(nil)
	crash.RelaySent.Pass()
	if got := strings.Join(seen, " "); got != "writer.begun relay.sent" {
		t.Errorf("saw %s", got)
	}
}

// What a point costs where nobody asked for it.
func BenchmarkPass(b *testing.B) {
	for b.Loop() {
		crash.ConsumerHandled.Pass()
	}
}
