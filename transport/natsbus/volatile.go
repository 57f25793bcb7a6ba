package natsbus

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/dovetail-go/dovetail/driver"
)

// IncarnationPrefix begins the name of a server that says how much a loss of
// power may cost it: dovetail-<incarnation>-<window>, as in
// "dovetail-0mxv3q-4m0s". Package embedded names its servers so; any server can
// be given such a name in its configuration.
const IncarnationPrefix = "dovetail-"

// Incarnation tells a start of the server after an unclean stop from others,
// and how long before it what was confirmed may be gone. It is ErrUnsupported
// with a server whose name does not say so: what a loss of power costs there
// is its operator's to know. Without a link it is ErrRetryable.
func (c *Conn) Incarnation(context.Context) (id string, window time.Duration, err error) {
	if err := c.ready(); err != nil {
		return "", 0, err
	}
	name := c.nc.ConnectedServerName()
	if name == "" { // the link was lost since ready looked: every server has a name
		return "", 0, fmt.Errorf("natsbus: ask the server for its incarnation: %w: there is no link", driver.ErrRetryable)
	}
	rest, ok := strings.CutPrefix(name, IncarnationPrefix)
	i := strings.LastIndexByte(rest, '-')
	if ok && i > 0 {
		if window, err = time.ParseDuration(rest[i+1:]); err == nil {
			return rest[:i], window, nil
		}
	}
	return "", 0, fmt.Errorf("natsbus: the incarnation of server %q is %w", name, driver.ErrUnsupported)
}
