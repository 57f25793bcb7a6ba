package tinybus

import (
	"context"
	"fmt"
	"net/url"

	"github.com/dovetail-go/dovetail/driver"
)

// shared is the bus of everybody who says tiny: to driver.Open.
var shared = New()

func init() { driver.Register("tiny", open) }

// open is the driver.Opener of tiny:.
func open(_ context.Context, u *url.URL) (driver.Conn, error) {
	if u.Opaque != "" || u.Host != "" || u.Path != "" {
		return nil, fmt.Errorf("tinybus: want tiny: and nothing more")
	}
	if err := driver.ParamsOf(u).Err(); err != nil {
		return nil, fmt.Errorf("tinybus: %w", err)
	}
	return shared.Connect(), nil
}
