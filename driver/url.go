package driver

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
)

// ParseURL parses the URL of a broker or a store. A URL without a scheme is an error.
// Errors do not quote the URL, which may have a password in it.
func ParseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, errors.New("URL cannot be parsed: want scheme://host:port or scheme:path, and in a user or a password %40 for @, %3A for :, %2F for / and %25 for %")
	case u.Scheme == "":
		return nil, errors.New("URL has no scheme: want scheme://host:port or scheme:path")
	}
	return u, nil
}

// Query returns the parameters of a URL, one value for each name. Unlike
// url.URL.Query it ignores nothing. These are errors: what is not name=value, a name
// that is given twice, a semicolon, a wrong percent sign, a name or value that is not
// text, and a fragment, which would be a part of a value. Errors do not quote values.
func Query(u *url.URL) (url.Values, error) {
	if u.Fragment != "" {
		return nil, errors.New("a broker or store URL has no fragment: write %23 for #")
	}
	values := url.Values{}
	for i, pair := range strings.Split(u.RawQuery, "&") {
		if pair == "" {
			continue
		}
		which := fmt.Sprintf("parameter %d", i+1)
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%s is not name=value: write & between parameters, and %%26 for an & in a value", which)
		}
		if strings.Contains(pair, ";") {
			return nil, fmt.Errorf("%s has a semicolon: write & between parameters, and %%3B for a semicolon in a value", which)
		}
		name, err1 := url.QueryUnescape(name)
		value, err2 := url.QueryUnescape(value)
		if err1 != nil || err2 != nil {
			return nil, fmt.Errorf("%s has a percent sign that begins no escape: write %%25 for a percent sign", which)
		}
		if ValidText(name) != nil || ValidText(value) != nil {
			return nil, fmt.Errorf("%s is not text: want UTF-8 without CR, LF and NUL", which)
		}
		if values.Has(name) {
			return nil, fmt.Errorf("parameter %s is given twice: give it once", shownName(name))
		}
		values.Set(name, value)
	}
	return values, nil
}

// shownName is the name of a parameter as errors show it. What does not look like
// one may be the rest of a value with an & in it.
func shownName(name string) string {
	if len(name) > 40 || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-0123456789") != "" {
		return "(hidden: it is no name)"
	}
	return strconv.Quote(name)
}

// Servers returns the servers that a URL names, each as host:port: first those of
// the URL's host part, then those of more; both are lists with commas. port is the
// port of servers that have none. A server that is not host or host:port, and a URL
// without the slashes before the host, are errors, which do not quote the URL. Where
// no server is named the list is empty.
func Servers(u *url.URL, more, port string) ([]string, error) {
	if u.Opaque != "" || u.Host == "" && u.User != nil {
		return nil, fmt.Errorf("the URL names no host: write %s://host:port", u.Scheme)
	}
	var servers []string
	for s := range strings.SplitSeq(u.Host+","+more, ",") {
		if s == "" {
			continue
		}
		host, p, err := net.SplitHostPort(s)
		if err != nil {
			host, p = strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"), port
		}
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 || host == "" || strings.ContainsAny(host, "/@?#[] ") || strings.Contains(host, ":") && !isIPv6(host) {
			return nil, fmt.Errorf("server %d of the URL is no host or host:port: write each as in %s://a:%s,b:%s, and user and password once, before the first",
				len(servers)+1, u.Scheme, port, port)
		}
		servers = append(servers, net.JoinHostPort(host, p))
	}
	return servers, nil
}

func isIPv6(host string) bool {
	host, _, _ = strings.Cut(host, "%") // the zone
	return net.ParseIP(host) != nil
}
