package driver

import (
	"net/url"
	"strings"
)

// hidden stands for what is not shown of a URL.
const hidden = "(hidden)"

// Redact returns what may be shown of the URL of a broker or a store: scheme, host
// and path, never a user, a password or a parameter. Call it before such a URL is
// printed, logged, or put into an error. A URL that cannot be parsed becomes
// "(hidden)", and an empty one stays empty.
func Redact(raw string) string {
	if raw == "" {
		return ""
	}
	u, err := ParseURL(raw)
	if err != nil {
		return hidden
	}
	return RedactURL(u)
}

// RedactURL is Redact for a URL that was parsed. It does not change u.
func RedactURL(u *url.URL) string {
	shown := (&url.URL{Scheme: u.Scheme, Opaque: u.Opaque, Host: u.Host, Path: u.Path, RawPath: u.RawPath}).String()
	// A password with a /, ? or # that was not escaped ends the host too early:
	// what stands before and behind it is a part of the password.
	if strings.Contains(shown+u.RawQuery+u.Fragment, "@") {
		return u.Scheme + ":" + hidden
	}
	return shown
}

// RedactError returns err, or, where the text of err has a secret of u in it, an
// error that wraps err and whose text has "(hidden)" in its place. Secrets are the
// password, or the user where there is no password; the values of parameters whose
// names contain pass, token, secret, pwd or auth; and the password of a URL that is
// the value of a parameter. A nil err stays nil.
func RedactError(err error, u *url.URL) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	safe := text
	for _, s := range secrets(u) {
		safe = strings.ReplaceAll(safe, s, hidden)
	}
	if safe == text {
		return err
	}
	return &redacted{safe, err}
}

type redacted struct {
	text string
	err  error
}

func (r *redacted) Error() string { return r.text }

// Unwrap returns the error whose text has secrets in it, for errors.Is and
// errors.As.
func (r *redacted) Unwrap() error { return r.err }

// secretWords are what the names of parameters with secrets have in them.
var secretWords = []string{"pass", "token", "secret", "pwd", "auth"}

// secrets are the texts of u that nobody is to see, as they are and escaped.
func secrets(u *url.URL) (all []string) {
	add := func(s string) {
		for _, form := range []string{s, url.QueryEscape(s), url.PathEscape(s), url.UserPassword("", s).String()[1:]} {
			if len(form) > 2 { // less is no secret, and everywhere in a text
				all = append(all, form)
			}
		}
	}
	if u.User != nil {
		if password, ok := u.User.Password(); ok {
			add(password)
		} else {
			add(u.User.Username())
		}
	}
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		name, value, _ := strings.Cut(pair, "=")
		lower := strings.ToLower(name)
		for _, word := range secretWords {
			if strings.Contains(lower, word) {
				add(value)
				if plain, err := url.QueryUnescape(value); err == nil {
					add(plain)
				}
				break
			}
		}
		if plain, err := url.QueryUnescape(value); err == nil && strings.Contains(plain, "@") {
			if inner, err := url.Parse(plain); err == nil && inner.User != nil { // a URL in the URL
				password, _ := inner.User.Password()
				add(password)
			}
		}
	}
	return all
}
