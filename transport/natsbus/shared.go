package natsbus

import (
	"context"

	"github.com/dovetail-go/dovetail/driver"
)

var _ driver.Sharer = (*receiver)(nil)

// Shared reports whether others of the group receive side by side with r. It
// knows of those that it asked, or was asked by, when one of the two began.
func (r *receiver) Shared(context.Context) (bool, error) {
	if err := r.open(); err != nil {
		return false, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.members == nil || len(r.sources) == 0 || r.sources[0].owned {
		return false, nil
	}
	return r.members.others() || r.sources[0].foreign, nil
}
