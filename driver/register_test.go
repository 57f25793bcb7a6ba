package driver_test

import (
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
)

func TestOpen_says_what_is_wrong_with_a_url(t *testing.T) {
	for url, want := range map[string]string{
		"nats":              `has no scheme: want scheme://host:port`,
		"127.0.0.1/x":       "has no scheme",
		"kafka://host:9092": `_ "github.com/dovetail-go/dovetail/transport/kafkabus"`,
		"embedded:":         `transport/natsbus/embedded"`,
		"carrier-pigeon:":   `no transport for scheme "carrier-pigeon"`,
	} {
		_, err := driver.Open(t.Context(), url)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v; want %s", url, err, want)
		}
	}
}
