package kafkabus

import (
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/dovetail-go/dovetail/driver"
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

// Each error names the field and what it may be, and that is taken.
func TestOptions_are_refused_with_a_remedy_that_is_right(t *testing.T) {
	for says, o := range map[string][2]Options{
		"option Timeout is negative: leave it 0 for 10s":                                        {{Timeout: -1}, {Timeout: 0}},
		"option MetadataAge is negative: leave it 0 for 3s":                                     {{MetadataAge: -1}, {MetadataAge: 0}},
		"option Partitions is -3: want 0 for the default, or up to 4000":                        {{Partitions: -3}, {Partitions: 4000}},
		"option Replicas is 101: want 0 for the default, or up to 100":                          {{Replicas: 101}, {Replicas: 100}},
		"option MaxAhead is 2000000: want 0 for the default, or up to 1048576":                  {{MaxAhead: 2_000_000}, {MaxAhead: 1 << 20}},
		"option MaxBytes is 5: want at least 1024":                                              {{MaxBytes: 5}, {MaxBytes: 1024}},
		"option MaxBytes is 100000000: want 0 for the default, or up to 67108864":               {{MaxBytes: 100_000_000}, {MaxBytes: 64 << 20}},
		"option Compression is \"rar\": want none, gzip, snappy, lz4 or zstd":                   {{Compression: "rar"}, {Compression: "lz4"}},
		"option Mechanism is \"GUESS\": want PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512":             {{User: "u", Mechanism: "GUESS"}, {User: "u", Mechanism: ScramSHA256}},
		"option Mechanism is PLAIN and User is empty: give a user":                              {{Mechanism: Plain}, {Mechanism: Plain, User: "u"}},
		"option Mechanism is SCRAM-SHA-256 and User is empty: give a user, or leave both empty": {{Mechanism: ScramSHA256}, {}},
		"option Heartbeat is 1m0s: want less than half of SessionTimeout, 15s":                  {{Heartbeat: time.Minute}, {Heartbeat: 7 * time.Second}},
		"option Retention is negative: leave it 0 for the server's":                             {{Retention: -1}, {Retention: 0}},
	} {
		if _, err := o[0].withDefaults(); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%+v: %v, want it to say %q", o[0], err, says)
		}
		if _, err := o[1].withDefaults(); err != nil {
			t.Errorf("%s: once that was done: %v", says, err)
		}
	}
	if o, err := (Options{}).withDefaults(); err != nil || o.batchBytes() != 1_048_576 {
		t.Errorf("the zero value: batches of %d, %v", o.batchBytes(), err)
	}
}

// A topic's settings are changed as the text says, word for word.
func TestSettings_are_refused_with_a_remedy_that_is_right(t *testing.T) {
	set := regexp.MustCompile(`set ([a-z.]+)=(\S+?)(?: or more)?(?:[;,]|$)|raise its ([a-z.]+) to (\d+)`)
	for name, m := range map[string]struct {
		topic string
		kind  driver.ChannelKind
		opts  Options
		have  settings
	}{
		"compacted":           {"orders", driver.PointToPoint, Options{}, settings{cleanupPolicy: "compact"}},
		"compacted, a topic":  {"orders", driver.PublishSubscribe, Options{}, settings{cleanupPolicy: "compact"}},
		"notes that expire":   {topologyTopic, driver.PointToPoint, Options{}, settings{cleanupPolicy: "delete"}},
		"letters that expire": {"dead.shop", driver.PointToPoint, Options{}, settings{cleanupPolicy: "delete", retentionMs: "1000", retentionBytes: "1000"}},
		"kept for a minute":   {"orders", driver.PointToPoint, Options{}, settings{cleanupPolicy: "delete", retentionMs: "60000"}},
		"kept for a morning":  {"orders", driver.PointToPoint, Options{}, settings{cleanupPolicy: "delete", retentionMs: "21600000"}},
		"little is kept":      {"orders", driver.PointToPoint, Options{}, settings{cleanupPolicy: "delete", retentionBytes: "1000"}},
		"large messages":      {"orders", driver.PointToPoint, Options{MaxBytes: 2_000_000}, settings{cleanupPolicy: "delete", maxBatch: "1048588"}},
		"narrow":              {"orders", driver.PointToPoint, Options{}, settings{cleanupPolicy: "delete", maxBatch: "1000"}},
		"unclean":             {"orders", driver.PointToPoint, Options{}, settings{cleanupPolicy: "delete", uncleanElect: "true"}},
		"one of three copies": {"orders", driver.PointToPoint, Options{}, settings{cleanupPolicy: "delete", minInSync: "1"}},
	} {
		o, err := m.opts.withDefaults()
		if err != nil {
			t.Fatal(err)
		}
		judge := func() []string {
			loses, may := o.judge(&topic{name: m.topic, replicas: 3}, driver.Channel{Name: m.topic, Kind: m.kind}, m.have)
			return append(loses, may...)
		}
		said := judge()
		if len(said) == 0 {
			t.Errorf("%s: nothing is said", name)
		}
		for _, text := range said {
			s := set.FindStringSubmatch(text)
			if s == nil {
				t.Errorf("%s: %q names no setting", name, text)
				continue
			}
			m.have[s[1]+s[3]] = s[2] + s[4]
		}
		if left := judge(); len(left) > 0 {
			t.Errorf("%s: once that was done: %q, and before: %q", name, left, said)
		}
	}
}
