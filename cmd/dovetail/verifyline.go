package main

import (
	"context"
	"fmt"

	"github.com/dovetail-go/dovetail/verify"
)

// showProgress returns what shows how far a run is, and in the end removes that.
func (v *verification) showProgress(ctx context.Context) (show func(verify.Progress), end func()) {
	p, phase, said := v.a.progress(), "", false
	return func(n verify.Progress) {
		if ctx.Err() != nil && !said {
			said = true
			p.end()
			v.a.note("ending: nodes are brought back, and what was written is compared. A second Ctrl-C ends at once, and leaves nodes, tables and channels as they are.")
		}
		p.text(verifyLine(n), n.Phase != phase)
		phase = n.Phase
	}, p.end
}

// lineWidth is how long a line may be that the next one replaces: at a terminal, only
// the last row of a longer one would go.
const lineWidth = 79

func verifyLine(n verify.Progress) string {
	phase := fmt.Sprintf("%s %.0f of %.0f s", n.Phase, n.Done.Seconds(), n.Of.Seconds())
	switch n.Phase {
	case "ending":
		phase = n.Phase
	case "draining":
		phase = fmt.Sprintf("draining, nothing for %.0f of %.0f s", n.Done.Seconds(), n.Of.Seconds())
	}
	if n.Broken != "" {
		phase += "; " + n.Broken
	}
	line := fmt.Sprintf("%s: committed %d, handled %d, killed %d", phase, n.Committed, n.Handled, n.Kills)
	if full := bar(int(n.Done), max(1, int(n.Of))) + " " + line; len(full) <= lineWidth {
		return full
	}
	return line[:min(lineWidth, len(line))]
}
