package verify

import (
	"context"
	"fmt"
	"slices"

	"github.com/dovetail-go/dovetail/driver"
)

// choose says which paths are walked, and which groups there are.
func (r *run) choose(ctx context.Context) (err error) {
	for _, m := range r.mains() {
		r.groups = append(r.groups, m.Group)
	}
	last := r.last()
	for i := range paths {
		p := &paths[i]
		if !slices.Contains(r.Paths, p.name) {
			continue
		}
		if p.cannot != nil {
			if why := p.cannot(r); why != "" {
				r.left = append(r.left, fmt.Sprintf("path %s (%s: %s)", p.name, r.caps.Name, why))
				continue
			}
		}
		r.walked = append(r.walked, p)
		r.groups = append(r.groups, Group{Name: p.name, Path: p.name, Ordered: p.ordered && last.Ordered, Repeats: p.foreign})
	}
	if r.walks(foreign) {
		r.plain = &stranger{channel: foreignName(r.id)}
		if r.plain.conn, err = driver.Open(ctx, r.broker); err != nil {
			return fmt.Errorf("verify: %w", err)
		}
	}
	return nil
}

// A mainGroup is a group of the main path and how many consumers it has.
type mainGroup struct {
	Group
	n     int
	spare bool // they are not killed
}

func (r *run) mains() []mainGroup {
	if r.caps.Order >= driver.OrderOwner {
		return []mainGroup{{Group{Name: "all", Ordered: true}, r.Consumers, false}}
	}
	ordered := r.caps.Order == driver.OrderInstance
	groups := []mainGroup{{Group{Name: "one", Ordered: ordered}, 1, ordered}}
	if r.Consumers > 1 {
		groups = append(groups, mainGroup{Group{Name: "many"}, r.Consumers - 1, false})
	}
	return groups
}

// last is the group whose consumers walk the paths as well.
func (r *run) last() Group {
	m := r.mains()
	return m[len(m)-1].Group
}

func (r *run) walks(name string) bool {
	return slices.ContainsFunc(r.walked, func(p *path) bool { return p.name == name })
}

// names are those of the paths that are walked and of which is says yes.
func (r *run) names(is func(*path) bool) (names []string) {
	for _, p := range r.walked {
		if is(p) {
			names = append(names, p.name)
		}
	}
	return names
}

// walk begins what happens on paths by the run itself.
func (r *run) walk() {
	ctx, rest := context.WithCancel(context.Background())
	looking, looked := context.WithCancel(context.Background())
	r.rest, r.looked = rest, looked
	if r.letters != nil {
		r.lookers.Go(func() { r.letters.watch(looking) })
	}
	if r.walks(versions) {
		r.walkers.Go(func() { r.deploy(ctx) })
	}
	if r.walks(outage) {
		r.walkers.Go(func() { r.outage(ctx) })
	}
	if r.plain != nil {
		r.walkers.Go(func() { r.plain.send(ctx) })
	}
}

// arrive ends what walk began, up to the watch over the dead letters.
func (r *run) arrive() {
	if r.rest != nil {
		r.rest()
		r.walkers.Wait()
	}
}

// closeWalk ends all of it.
func (r *run) closeWalk() {
	r.arrive()
	if r.looked != nil {
		r.looked()
		r.lookers.Wait()
	}
}
