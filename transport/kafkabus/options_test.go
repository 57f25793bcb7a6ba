package kafkabus

import (
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestParseURL_reads_every_parameter(t *testing.T) {
	u, err := url.Parse("kafka://me:secret@a:1,b:2?brokers=c,d:4&name=shop&mechanism=scram-sha-512&tls=true&timeout=3s&partitions=8&replicas=3" +
		"&max-bytes=2000000&retention=24h&compression=zstd&session-timeout=9s&heartbeat=500ms&drain-timeout=4s&max-ahead=77&metadata-age=5s")
	if err != nil {
		t.Fatal(err)
	}
	o, err := ParseURL(u)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(o.Brokers, " "); got != "a:1 b:2 c:9092 d:4" {
		t.Errorf("brokers %s", got)
	}
	if o.User != "me" || o.Password != "secret" || o.Mechanism != ScramSHA512 || o.TLS == nil || o.Name != "shop" || o.Timeout != 3*time.Second ||
		o.Partitions != 8 || o.Replicas != 3 || o.MaxBytes != 2_000_000 || o.Retention != 24*time.Hour || o.Compression != "zstd" ||
		o.SessionTimeout != 9*time.Second || o.Heartbeat != 500*time.Millisecond || o.DrainTimeout != 4*time.Second || o.MaxAhead != 77 ||
		o.MetadataAge != 5*time.Second {
		t.Errorf("read %+v", o)
	}
	if _, err := o.withDefaults(); err != nil {
		t.Error(err)
	}
}

func TestParseURL_names_what_is_wrong(t *testing.T) {
	for raw, want := range map[string]string{
		"kafka://h/x":                 "path",
		"kafka://h?nonsense=1":        "nonsense",
		"kafka://h?timeout=soon":      "timeout",
		"kafka://h?timeout=-1s":       "above 0",
		"kafka://h?partitions=0":      "partitions",
		"kafka:h:9092":                "write kafka://host:port",
		"kafka://h?tls=/no/such/file": "authorities",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = ParseURL(u); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want it to name %q", raw, err, want)
		}
	}
}

func TestOptions_names_the_field_that_cannot_be(t *testing.T) {
	for want, o := range map[string]Options{
		"Timeout":     {Timeout: -1},
		"Partitions":  {Partitions: -3},
		"MaxBytes":    {MaxBytes: 5},
		"Compression": {Compression: "rar"},
		"Mechanism":   {User: "u", Mechanism: "GUESS"},
		"User":        {Mechanism: Plain},
		"Heartbeat":   {Heartbeat: time.Minute},
		"Retention":   {Retention: -1},
	} {
		if _, err := o.withDefaults(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want it to name %s", o, err, want)
		}
	}
	if o, err := (Options{}).withDefaults(); err != nil || o.batchBytes() != 1_048_576 {
		t.Errorf("the zero value: batches of %d, %v", o.batchBytes(), err)
	}
}
