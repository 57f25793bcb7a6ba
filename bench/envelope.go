package bench

import (
	"time"

	"github.com/dovetail-go/dovetail"
	"github.com/dovetail-go/dovetail/driver"
)

// enveloped is a raw client that can be made to send headers as ours does: what
// is left then is what Dovetail itself costs.
type enveloped interface{ carry() }

// envelopeOf is the attributes of a message of ours, of the same sizes.
func envelopeOf(prefix string, contentType bool) driver.Headers {
	m := &driver.Message{ID: dovetail.NewID(), Source: "bench-sender", Type: "bench.r-100.v1", Time: time.Now().UTC().Truncate(time.Microsecond),
		ContentType: "application/octet-stream", Key: keys[0]}
	return driver.AppendAttributes(nil, prefix, m, contentType)
}
