package driver_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
)

func TestQuery_drops_nothing(t *testing.T) {
	for query, want := range map[string]string{
		"tls=true;x=1":           "semicolon",
		"prefix=a;drop--":        "semicolon",
		"tls":                    "not name=value",
		"=x":                     "not name=value",
		"a=1&sesame":             "parameter 2",
		"token=sesame%zz":        "percent sign",
		"%zz=1":                  "percent sign",
		"tls=true&tls=false":     `"tls" is given twice`,
		"a%0a=1":                 "not text",
		"token=sesame%00":        "not text",
		"token=a%0Dsesame":       "not text",
		"token=sesame#tls=true":  "fragment",
		"a=1&sesame/+x=2&b=1&b=": `"b" is given twice`,
	} {
		u, err := url.Parse("nats://h?" + query)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := driver.Query(u); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "sesame") {
			t.Errorf("%s: %v, %v, want an error that says %q and quotes no value", query, got, err, want)
		}
	}
	u, err := url.Parse("nats://h?a=1&b=x%3By%26%25&&c=")
	if err != nil {
		t.Fatal(err)
	}
	if q, err := driver.Query(u); err != nil || q.Get("a") != "1" || q.Get("b") != "x;y&%" || !q.Has("c") || len(q) != 3 {
		t.Errorf("%v, %v", q, err)
	}
}

func TestServers_names_each(t *testing.T) {
	for raw, want := range map[string]string{
		"nats://a":                          "a:1",
		"nats://a:5,b,c:7/?servers=[::1]:7": "a:5 b:1 c:7 [::1]:7",
		"nats://u:p@a?servers=b:2,,::1,c":   "a:1 b:2 [::1]:1 c:1",
		"nats://":                           "",
		"nats:a:5":                          "!write nats://host:port",
		"nats://u:sesame@":                  "!write nats://host:port",
		"nats://a?servers=u:sesame@b":       "!server 2",
		"nats://a?servers=nats://b":         "!server 2",
		"nats://a?servers=b:99999":          "!server 2",
		"nats://a?servers=b c":              "!server 2",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		got, err := driver.Servers(u, u.Query().Get("servers"), "1")
		if fault, bad := strings.CutPrefix(want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), fault) || strings.Contains(err.Error(), "sesame") {
				t.Errorf("%s: %v, %v, want an error that says %q", raw, got, err, fault)
			}
		} else if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v, want %s", raw, got, err, want)
		}
	}
}

func TestRedact_shows_scheme_host_and_path(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                      "",
		"nats://ana:sesame@h:4222?token=sesame": "nats://h:4222",
		"nats://sesame@h":                       "nats://h",
		"nats://a:1,b:2?servers=c":              "nats://a:1,b:2",
		"postgres://ana:sesame@h/db?sslpassword=x":    "postgres://h/db",
		"file:dir/sub?sync=os":                        "file:dir/sub",
		"file:///var/lib/a%20b":                       "file:///var/lib/a%20b",
		"sqlite:shop.db":                              "sqlite:shop.db",
		"mem:shop?token=sesame#sesame":                "mem:shop",
		"nats://ana:12/sesame@h":                      "nats:(hidden)",
		"nats://ana:12?sesame@h":                      "nats:(hidden)",
		"nats://ana:12#sesame@h":                      "nats:(hidden)",
		"nats://a@b:12?sesame@h":                      "nats:(hidden)",
		"nats:ana:sesame@h":                           "nats:(hidden)",
		"host=h password=sesame":                      "(hidden)",
		"nats://ana:ses ame@h":                        "(hidden)",
		"nats://ana:ses/ame@h:x":                      "(hidden)",
		"amqp://ana:sesame@h/v?management=http://b:c": "amqp://h/v",
	} {
		if got := driver.Redact(raw); got != want {
			t.Errorf("%s is shown as %s, want %s", raw, got, want)
		}
	}
}

// FuzzRedact makes URLs of hosts, users, passwords and tokens: what is shown of
// them, in text and in errors, has neither.
func FuzzRedact(f *testing.F) {
	f.Add("nats", "ana", "sesame17", "h:4222", "token", "tls=true;x=1")
	f.Add("kafka", "", "s/e?s#a@m e%", "h", "sslpassword", "#x")
	f.Add("carrier", "a@b", "päss:wörd", "[::1]:1", "Password", "&token=&")
	f.Fuzz(func(t *testing.T, scheme, user, secret, host, name, tail string) {
		secret = "S3cr3t" + secret + "t3rc3S" // long enough to be told from everything else
		query := url.Values{name + "token": {secret}}.Encode()
		for _, raw := range []string{
			scheme + "://" + url.UserPassword(user, secret).String() + "@" + host + "?" + query + tail,
			scheme + "://" + url.User(secret).String() + "@" + host + "/path?" + tail,
			scheme + "://" + host + "?" + query + "&" + tail,
			scheme + "://" + user + ":" + secret + "@" + host + "?" + tail, // not escaped
		} {
			texts := []string{driver.Redact(raw)}
			_, err := driver.Open(t.Context(), raw)
			if err == nil {
				t.Fatalf("%q was opened", raw)
			}
			if !strings.HasPrefix(raw, scheme+"://") || strings.Contains(scheme+host, "S3cr3t") {
				return
			}
			if u, err := driver.ParseURL(raw); err == nil {
				_, qerr := driver.Query(u)
				_, serr := driver.Servers(u, "", "1")
				perr := driver.ParamsOf(u).Err()
				for _, err := range []error{err, qerr, serr, perr} {
					if err != nil {
						texts = append(texts, err.Error())
					}
				}
			} else {
				texts = append(texts, err.Error())
			}
			for _, text := range append(texts, err.Error()) {
				if strings.Contains(text, "S3cr3t") || strings.Contains(text, "t3rc3S") {
					t.Fatalf("%q: a secret is shown: %s", raw, text)
				}
			}
		}
	})
}
