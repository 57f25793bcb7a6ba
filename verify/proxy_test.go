package verify

import (
	"net/url"
	"testing"
)

func TestProxied_replaces_the_host_alone(t *testing.T) {
	p, raw, err := proxied("nats://user:secret@127.0.0.1:4222?x=1")
	if err != nil || p == nil {
		t.Fatal(p, err)
	}
	defer p.Close()
	u, err := url.Parse(raw)
	if err != nil || u.User.String() != "user:secret" || u.RawQuery != "x=1" || u.Host != p.Addr() || p.Target() != "127.0.0.1:4222" {
		t.Errorf("URL %s for %s, %v: want only the host replaced", raw, p.Target(), err)
	}
}

func TestProxied_leaves_alone_what_cannot_be_cut(t *testing.T) {
	for _, raw := range []string{"file:/tmp/x", "sqlite:/tmp/x.db", "kafka://127.0.0.1:9092", "nats://a:1,b:2", "nats://a?servers=b"} {
		if p, same, err := proxied(raw); p != nil || same != raw || err != nil {
			t.Errorf("%s: %v, %s, %v", raw, p, same, err)
		}
	}
	p, raw, err := proxied("postgres://db.example.com/shop")
	if err != nil || p.Target() != "db.example.com:5432" {
		t.Fatalf("%s, %v", raw, err)
	}
	p.Close()
}
