package driver

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Params reads the query parameters of a URL one by one. At the end, Err names
// those that nobody has read. Every transport and store reads its URL with it, so
// that nothing in a URL is ignored. Its errors never quote a value, which may be a
// secret. A Params is used by one goroutine.
//
// A method that reads into a variable leaves it unchanged where the parameter is
// absent or cannot be read, so the variable holds the default before; Err then
// has the error.
type Params struct {
	values url.Values
	known  []string
	errs   []string
}

// ParamsOf returns the parameters of u, read by [Query]. An error of Query is in
// Err.
func ParamsOf(u *url.URL) *Params {
	values, err := Query(u)
	p := &Params{values: values}
	if err != nil {
		p.errs = append(p.errs, err.Error())
	}
	return p
}

// Has reports whether the URL has the parameter called name. The name is known
// from now on.
func (p *Params) Has(name string) bool {
	p.known = append(p.known, name)
	return p.values.Has(name)
}

// String returns the parameter called name, or def if it is absent.
func (p *Params) String(name, def string) string {
	if !p.Has(name) {
		return def
	}
	return p.values.Get(name)
}

// Parse calls parse with the value of the parameter called name, if the URL has it.
// An error of parse is in Err; it must not quote the value.
func (p *Params) Parse(name string, parse func(string) error) {
	if !p.Has(name) {
		return
	}
	if err := parse(p.values.Get(name)); err != nil {
		p.errs = append(p.errs, fmt.Sprintf("parameter %s: %v", name, err))
	}
}

// Duration reads a duration above zero, written as in 5s or 1m30s, into d.
func (p *Params) Duration(name string, d *time.Duration) {
	p.Parse(name, func(v string) error {
		n, err := time.ParseDuration(v)
		if err != nil || n <= 0 {
			return errors.New("want a duration above 0, as in 5s")
		}
		*d = n
		return nil
	})
}

// Int reads a whole number, least or more, into n.
func (p *Params) Int(name string, n *int, least int) {
	n64 := int64(*n)
	p.Int64(name, &n64, int64(least))
	*n = int(n64)
}

// Int64 is Int for an int64. It takes no number that does not fit an int.
func (p *Params) Int64(name string, n *int64, least int64) {
	p.Parse(name, func(v string) error {
		i, err := strconv.ParseInt(v, 10, 64)
		if err != nil || i < least || int64(int(i)) != i {
			return fmt.Errorf("want a whole number from %d", least)
		}
		*n = i
		return nil
	})
}

// Bool reads true or false, or another form that strconv.ParseBool takes, into b.
func (p *Params) Bool(name string, b *bool) {
	p.Parse(name, func(v string) error {
		on, err := strconv.ParseBool(v)
		if err != nil {
			return errors.New("want true or false")
		}
		*b = on
		return nil
	})
}

// Exclude adds an error to Err if the URL has more than one of the ways to give
// the same thing. what names the thing; ways has a name for each way, for the
// error, and whether the URL has it.
func (p *Params) Exclude(what string, ways map[string]bool) {
	var given []string
	for name, is := range ways {
		if is {
			given = append(given, name)
		}
	}
	if len(given) > 1 {
		slices.Sort(given)
		p.errs = append(p.errs, fmt.Sprintf("%s: the URL has %s, which exclude each other: give one", what, strings.Join(given, " and ")))
	}
}

// Err returns an error that names the parameters that could not be read, and those
// that the URL has and nobody has read, with the names that are known. It returns
// nil if there are none. It is called last.
func (p *Params) Err() error {
	errs := p.errs
	for name := range p.values {
		if !slices.Contains(p.known, name) {
			have := "it takes none"
			if len(p.known) > 0 {
				known := slices.Clone(p.known)
				slices.Sort(known)
				have = "known: " + strings.Join(slices.Compact(known), ", ")
			}
			errs = append(errs, fmt.Sprintf("unknown parameter %s (%s)", shownName(name), have))
		}
	}
	if len(errs) == 0 {
		return nil
	}
	slices.Sort(errs)
	return errors.New(strings.Join(errs, "; "))
}
