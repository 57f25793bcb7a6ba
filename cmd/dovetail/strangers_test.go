package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
)

// sesame is the secret in the URLs of these tests.
const sesame = "sesame17"

// strangersURLs begin a URL of each scheme that is linked in, at which nobody
// listens.
var strangersURLs = map[string]string{
	"nats": "127.0.0.1:1", "tls": "127.0.0.1:1", "kafka": "127.0.0.1:1", "amqp": "127.0.0.1:1", "amqps": "127.0.0.1:1",
	"mem": "", "file": "", "embedded": "", "postgres": "127.0.0.1:1", "postgresql": "127.0.0.1:1", "sqlite": "",
}

// schemed is a URL with user information and what follows the path.
func schemed(scheme, user, rest string) string {
	host := strangersURLs[scheme]
	if host == "" && user == "" {
		return scheme + ":place" + rest
	}
	if user != "" {
		user += "@"
	}
	return scheme + "://" + user + host + rest
}

// used runs the program in a home of its own.
func used(t *testing.T, args ...string) (code int, printed string) {
	t.Helper()
	dir := t.TempDir()
	for _, v := range []string{"HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"} {
		t.Setenv(v, filepath.Join(dir, "home"))
	}
	t.Chdir(dir)
	var out bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &out, &out)
	return code, out.String()
}

// at are the arguments that name a broker or a store, and look at it.
func at(scheme, url string) []string {
	if slices.Contains(driver.Schemes(), scheme) {
		return []string{"topology", "--timeout", "3s", "--broker", url}
	}
	return []string{"migrate", "list", "--timeout", "3s", "--store", url}
}

func allSchemes() []string { return append(driver.Schemes(), storeSchemes()...) }

// TestURLs_of_every_scheme_are_read_whole_or_refused: what cannot be read, what
// is unknown and what contradicts is an error, with no value in it.
func TestURLs_of_every_scheme_are_read_whole_or_refused(t *testing.T) {
	for _, scheme := range allSchemes() {
		if _, known := strangersURLs[scheme]; !known {
			t.Errorf("scheme %s has no URL in this test: add one to strangersURLs", scheme)
		}
		for _, rest := range []string{
			"?tls=true;x=" + sesame, "?prefix=a;drop--" + sesame, "?sslmode=verify-full;x=" + sesame, "?" + sesame, "?name=a&name=" + sesame,
			"?name=" + sesame + "%zz", "?name=a#" + sesame, "?sslmod=" + sesame, "?name=%00" + sesame, "?=" + sesame,
		} {
			if code, printed := used(t, at(scheme, schemed(scheme, "", rest))...); code != 2 && !(scheme != "mem" && rest[1:8] == "sslmod=" && code == 1) || strings.Contains(printed, sesame) {
				t.Errorf("%s: exit code %d, printed %s", schemed(scheme, "", rest), code, printed)
			}
		}
	}
	for url, want := range map[string]string{
		"tls://127.0.0.1:1?tls=false":                        "demands it",
		"nats://a:b@127.0.0.1:1?token=" + sesame:             "exclude each other",
		"nats:127.0.0.1:1":                                   "write nats://host:port",
		"kafka:127.0.0.1:1":                                  "write kafka://host:port",
		"amqp:127.0.0.1:1":                                   "write amqp://host:port",
		"amqp://127.0.0.1:1?ca=x":                            "amqps",
		"amqps://127.0.0.1:1?key=x":                          "give both",
		"amqp://127.0.0.1:1?max-length=3&pipeline-keys=true": "exclude each other",
		"embedded:a?dir=b":                                   "use one of them",
		"kafka://127.0.0.1:1?mechanism=plain":                "User is empty",
		"postgres://ana@127.0.0.1:1/db?user=" + sesame:       "give it once",
		"postgres://127.0.0.1:1/db?host=" + sesame:           "give it once",
		"postgres://127.0.0.1:1/db?sslmode=off":              "sslmode is invalid",
		"postgres://127.0.0.1:1/db?tls=true":                 "unknown parameter",
		"sqlite:a?schema=b":                                  "unknown parameter",
		"sqlite:a?prefix=a%3Bdrop--":                         "prefix",
		"postgres://127.0.0.1:1/db?prefix=a%3Bdrop--":        "Prefix",
	} {
		scheme, _, _ := strings.Cut(url, ":")
		if code, printed := used(t, at(scheme, url)...); code == 0 || !strings.Contains(strings.ToLower(printed), strings.ToLower(want)) || strings.Contains(printed, sesame) {
			t.Errorf("%s: exit code %d, printed %s, want it to say %q", url, code, printed, want)
		}
	}
}

// TestURLs_of_every_scheme_are_shown_without_secrets: neither an error nor a
// listing has a user, a password or a value in it, whether the URL is refused or
// nobody listens there.
func TestURLs_of_every_scheme_are_shown_without_secrets(t *testing.T) {
	for _, scheme := range allSchemes() {
		alone := sesame // a token, on NATS
		if strings.HasPrefix(scheme, "postgres") {
			alone = "ana" // whom the server and pgx name when they refuse
		}
		for _, url := range []string{
			schemed(scheme, "ana:"+sesame, ""), schemed(scheme, alone, ""), schemed(scheme, "", "?token="+sesame),
			schemed(scheme, "", "?password="+sesame), schemed(scheme, "", "?sslpassword="+sesame), schemed(scheme, "", "?pass%77ord="+sesame),
			schemed(scheme, "ana:a/"+sesame, ""), schemed(scheme, "ana:1?"+sesame, ""), schemed(scheme, "ana:1#"+sesame, "/db"),
			schemed(scheme, "ana:"+sesame+" x", ""), schemed(scheme, "ana:"+sesame, "?timeout=soon&pool_max_conns=many"),
			schemed(scheme, "ana:"+sesame, "?management=http://ana:"+sesame+"@127.0.0.1:1"),
			schemed(scheme, "", "?servers=ana:"+sesame+"@b&brokers=ana:"+sesame+"@b"),
			"host=127.0.0.1 port=1 password=" + sesame, "no-such-scheme://ana:" + sesame + "@h?token=" + sesame,
		} {
			if code, printed := used(t, at(scheme, url)...); strings.Contains(printed, sesame) {
				t.Errorf("%s: exit code %d, a secret is printed: %s", url, code, printed)
			}
			for _, command := range [][]string{{"doctor"}, {"dead", "list"}, {"relay", "--service", "s", "--drain"}, {"demo", "--once"}, {"outbox", "list"}, {"migrate", "up"}} {
				if scheme != "mem" && scheme != "sqlite" && strings.Contains(url, "127.0.0.1") { // the others are read by the same functions
					continue
				}
				if _, printed := used(t, append(command, "--timeout", "2s", "--broker", url, "--store", url)...); strings.Contains(printed, sesame) {
					t.Errorf("%v %s: a secret is printed: %s", command, url, printed)
				}
			}
			for _, flag := range []string{"--broker", "--store"} {
				_, printed := used(t, "context", "set", "a", flag, url)
				_, listed := usedAgain(t, "context", "list", "-o", "json")
				if strings.Contains(printed+listed, sesame) {
					t.Errorf("context set and list %s: a secret is printed: %s%s", url, printed, listed)
				}
			}
		}
	}
}

// usedAgain is used in the home of the last.
func usedAgain(t *testing.T, args ...string) (code int, printed string) {
	t.Helper()
	var out bytes.Buffer
	code = run(t.Context(), args, strings.NewReader(""), &out, &out)
	return code, out.String()
}

// TestContexts_are_for_this_user_alone: the file holds passwords, also where it,
// or what an interrupted save left beside it, was there with other rights.
func TestContexts_are_for_this_user_alone(t *testing.T) {
	_, _ = used(t, "context", "list")
	dir := filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "dovetail")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "contexts.json")
	rights := func() (all []string) {
		files, err := os.ReadDir(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			info, err := f.Info()
			if err != nil || info.Mode().Perm() != 0o600 {
				all = append(all, fmt.Sprint(f.Name(), info.Mode(), err))
			}
		}
		return all
	}
	for _, name := range []string{path, path + ".next"} {
		if err := os.WriteFile(name, []byte("{}"), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(name, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if code, printed := usedAgain(t, "context", "set", "a", "--broker", "nats://ana:sesame@h"); code != 0 || rights() != nil {
		t.Errorf("exit code %d, %s; %v", code, printed, rights())
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if code, printed := usedAgain(t, "context", "list"); code != 0 || rights() != nil {
		t.Errorf("exit code %d, %s; %v", code, printed, rights())
	}
}
