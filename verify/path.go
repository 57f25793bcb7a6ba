package verify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// A path is one way of messages through the product besides the main one. It
// has a contract, keys and a group of effects of its own, all of its name.
type path struct {
	name string
	says string // what is checked on it

	// cannot says why a run cannot walk it; "" if it can.
	cannot func(r *run) string

	// contracts are what is published; nil for one contract.
	contracts func(event dovetail.Event[Note]) []dovetail.Event[Note]

	// dress makes n the next note of the path. It returns which of the contracts
	// n goes by, and a mark for its id.
	dress func(t *transaction, n *Note) (contract int, mark string)

	// consume registers its handlers; nil for one handler in the consumers'
	// group.
	consume func(p *process, c consumption)

	ordered bool // keeps the order of a key wherever the group does
	foreign bool // a program without the product sends it
	alone   bool // a consumer of its own handles it
}

// Paths are the names of the paths that a run can walk besides the main one.
func Paths() (names []string) {
	for i := range paths {
		names = append(names, paths[i].name)
	}
	return names
}

const (
	versions  = "versions"
	outage    = "outage"
	broadcast = "broadcast"
	requeues  = "requeues"
	poison    = "poison"
	slow      = "slow"
	foreign   = "plain"
)

var paths = []path{
	{
		name: versions,
		says: "messages of version 2 that came before the instances that handle it are handled",
		cannot: func(r *run) string {
			if r.last().Ordered && r.caps.Order < driver.OrderOwner {
				return "it keeps the order of a key only for a consumer that is not restarted, and there is no other: want 2 consumers or more"
			}
			return ""
		},
		contracts: func(e dovetail.Event[Note]) []dovetail.Event[Note] {
			return []dovetail.Event[Note]{e, e.Version(2)}
		},
		dress: func(t *transaction, _ *Note) (int, string) {
			if t.r.IntN(2) == 0 {
				return 0, ""
			}
			return 1, secondMark
		},
		consume: func(p *process, c consumption) {
			one, _ := c.handlers(p.effect(versions, nil))
			c.events[0].Subscribe(p.svc, one)
			if p.Deployed {
				c.events[1].Subscribe(p.svc, one)
			}
		},
	},
	{
		name:    outage,
		says:    "a database that is away for longer than the retry policy makes no dead letters",
		cannot:  (*run).noOutage,
		ordered: true,
		consume: func(p *process, c consumption) {
			one, many := c.handlers(p.effect(outage, nil))
			if !p.LongPolicy {
				c.opts = append(c.opts, dovetail.Retry(shortPolicy))
			} else {
				c.opts = append(c.opts, dovetail.Retry(dovetail.RetryPolicy{Attempts: 10})) // the default
			}
			if p.Batch {
				c.events[0].SubscribeBatch(p.svc, many, c.opts...)
			} else {
				c.events[0].Subscribe(p.svc, one, c.opts...)
			}
		},
	},
	{
		name: broadcast,
		says: "a broadcast group has everything that was sent while its instance lived",
		cannot: func(r *run) string {
			if !r.caps.Broadcast {
				return "it has no broadcast groups"
			}
			return ""
		},
		alone: true,
		consume: func(p *process, c consumption) {
			one, _ := c.handlers(p.effect(broadcast, nil))
			c.events[0].Subscribe(p.svc, one, dovetail.Broadcast())
		},
	},
	{
		name:   requeues,
		says:   "dead letters that are sent again while the run goes on are handled once",
		cannot: (*run).noLetters,
		consume: func(p *process, c consumption) {
			one, _ := c.handlers(p.effect(requeues, func(ctx context.Context, n Note) error {
				if n.N%8 == 1 && dovetail.DeliveryFromContext(ctx).Requeues == 0 {
					return dovetail.Permanent(errors.New("fails until it is sent again")) // the first of each key, so that a short run has some
				}
				return nil
			}))
			c.events[0].Subscribe(p.svc, one, c.opts...)
		},
	},
	{
		name:    poison,
		says:    "messages that cannot be handled, some of them near the size limit, are kept as dead letters, and others go on",
		cannot:  (*run).noLetters,
		ordered: true,
		contracts: func(e dovetail.Event[Note]) []dovetail.Event[Note] {
			return []dovetail.Event[Note]{e, e.Encoded(torn{})}
		},
		dress: func(t *transaction, n *Note) (int, string) {
			switch {
			case t.w.large.due():
				n.Text = strings.Repeat("x", t.w.Large)
				return 0, badMark
			case n.N%8 == 1: // the first of each key, so that a short run has some
				return 1, badMark
			}
			return 0, ""
		},
		consume: func(p *process, c consumption) {
			one, _ := c.handlers(p.effect(poison, func(_ context.Context, n Note) error {
				if len(n.Text) == p.Large {
					return dovetail.Permanent(errors.New("too large for the one who handles it"))
				}
				return nil
			}))
			c.events[0].Subscribe(p.svc, one, c.opts...)
		},
	},
	{
		name:    slow,
		says:    "a key with a slow handler is handed over, and holds no other",
		ordered: true,
		consume: func(p *process, c consumption) {
			one, _ := c.handlers(p.effect(slow, nil))
			c.events[0].Subscribe(p.svc, one, append(c.opts, dovetail.Use(slowly))...)
		},
	},
	{
		name:    foreign,
		says:    "plain JSON of a program that knows nothing of Dovetail is handled; it has no ids, so that what came twice is not counted",
		foreign: true,
	},
}

// shortPolicy ends long before a database is back.
var shortPolicy = dovetail.RetryPolicy{Attempts: 5, First: 20 * time.Millisecond, Max: 100 * time.Millisecond}

// pathOf returns a path by its name.
func pathOf(name string) *path {
	i := slices.IndexFunc(paths, func(p path) bool { return p.name == name })
	if i < 0 {
		return nil
	}
	return &paths[i]
}

// keysPerPath is how many keys a path has.
const keysPerPath = 12

// keyOf is the name of a path's key.
func keyOf(path string, i int) string { return fmt.Sprintf("%s/key-%02d", path, i) }

// slowKey is the key whose handler is slow at times.
var slowKey = keyOf(slow, 0)

// PathOf is the path that a key belongs to; "" for the main one.
func PathOf(key string) string {
	name, _, ok := strings.Cut(key, "/")
	if !ok {
		return ""
	}
	return name
}

// events are the contracts of a path: of the main one for "".
func (j *job) events(name string) []dovetail.Event[Note] {
	keyed := func(contract string) dovetail.Event[Note] {
		return dovetail.NewEvent[Note](contract).Keyed(func(n Note) string { return n.Key })
	}
	own := "verify-" + j.Run + "." + name
	p := pathOf(name)
	switch {
	case p == nil:
		return []dovetail.Event[Note]{j.event()}
	case p.foreign:
		return []dovetail.Event[Note]{keyed(own).On(dovetail.NewChannel(own).Partitions(j.Partitions))}
	}
	e := keyed(own).On(dovetail.NewChannel(sharedName(j.Run)).Partitions(j.Partitions))
	if p.contracts == nil {
		return []dovetail.Event[Note]{e}
	}
	return p.contracts(e)
}

// declare has svc send the events of all paths of the job.
func (p *process) declare() {
	for _, name := range append([]string{""}, p.Paths...) {
		for _, e := range p.events(name) {
			p.svc.Declare(e)
		}
	}
}

// torn encodes half of a value.
type torn struct{}

func (torn) ContentType() string { return "application/json" }

func (torn) Marshal(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	return b[:len(b)/2], err
}

func (torn) Unmarshal(data []byte, v any) error { return json.Unmarshal(data, v) }

// near is how much smaller than the limit a message near it is.
const near = 1 << 10

// largest is how long the text of a note near the limits of a transport and of
// the product is.
func largest(caps driver.Capabilities) int {
	limit := 1 << 20
	if caps.MaxBytes > 0 {
		limit = min(limit, caps.MaxBytes)
	}
	return limit - near
}
