package natsbus

import (
	"net/url"
	"strings"
	"testing"
	"time"
)

func TestParseURL_reads_servers_and_parameters(t *testing.T) {
	u, err := url.Parse("nats://shop:secret@a:4222?servers=b,[::1],c:4333&replicas=3&ack-wait=10s&dedupe=1m&max-bytes=1000&timeout=2s&ping=1s&expire=1h&name=till&tls=true&partitions=8&owner-ttl=3s")
	if err != nil {
		t.Fatal(err)
	}
	o, err := ParseURL(u)
	if err != nil {
		t.Fatal(err)
	}
	if o.URL != "nats://a:4222,nats://b:4222,nats://[::1]:4222,nats://c:4333" || o.User != "shop" || o.Password != "secret" || o.TLS == nil {
		t.Errorf("servers and credentials: %s %s tls %v", o.URL, o.User, o.TLS != nil)
	}
	if o.Replicas != 3 || o.AckWait != 10*time.Second || o.Dedupe != time.Minute || o.MaxBytes != 1000 || o.Timeout != 2*time.Second || o.Ping != time.Second ||
		o.Expire != time.Hour || o.Name != "till" || o.Partitions != 8 || o.OwnerTTL != 3*time.Second {
		t.Errorf("parameters: %+v", o)
	}
}

func TestParseURL_reads_servers_with_commas_between(t *testing.T) {
	u, err := url.Parse("nats://a:4222,b:4333")
	if err != nil {
		t.Fatal(err)
	}
	if o, err := ParseURL(u); err != nil || o.URL != "nats://a:4222,nats://b:4333" {
		t.Errorf("servers %s, %v", o.URL, err)
	}
}

func TestParseURL_names_what_is_wrong(t *testing.T) {
	for raw, want := range map[string]string{
		"nats://a?ack_wait=3s":       `unknown parameter "ack_wait"`,
		"nats://a?ack-wait=3":        "parameter ack-wait: want a duration",
		"nats://a?ack-wait=-3s":      "above 0",
		"nats://a?replicas=many":     "parameter replicas: want a whole number",
		"nats://a/subject":           "has none",
		"tls://a?tls=false":          "the scheme tls demands it",
		"nats://u:p@a?token=t":       "exclude each other",
		"nats://a?creds=c&token=t":   "exclude each other",
		"nats:a:4222":                "write nats://host:port",
		"nats://a?servers=nats://b":  "server 2 of the URL",
		"nats://a?max-bytes=1&x=2":   `unknown parameter "x"`,
		"nats://a?timeout=0s&tls=no": "parameter timeout",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = ParseURL(u); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want it to say %s", raw, err, want)
		}
	}
}

func TestOptions_impossible_values_are_errors(t *testing.T) {
	for _, o := range []Options{{Replicas: 7}, {Timeout: -1}, {AckWait: -1}, {MaxBytes: -1}, {Partitions: -1}, {Partitions: 2000}, {OwnerTTL: time.Millisecond}, {Expire: 2 * time.Second}, {Dedupe: time.Millisecond}} {
		if _, err := o.withDefaults(); err == nil {
			t.Errorf("%+v was taken", o)
		}
	}
	if o, err := (Options{}).withDefaults(); err != nil || o.AckWait != 30*time.Second || o.Timeout != 5*time.Second {
		t.Errorf("defaults: %+v, %v", o, err)
	}
}

func TestConnect_shows_no_secret_of_a_URL(t *testing.T) {
	for _, raw := range []string{"nats://ana:ses ame@h", "ana:sesame@h:x", "nats://ana:sesame@127.0.0.1:1", "nats://sesame@127.0.0.1:1,nats://h:sesame"} {
		_, err := Connect(t.Context(), Options{URL: raw, Timeout: time.Second})
		if err == nil || strings.Contains(err.Error(), "ame") && strings.Contains(err.Error(), "ses") {
			t.Errorf("%s: %v", raw, err)
		}
	}
}
