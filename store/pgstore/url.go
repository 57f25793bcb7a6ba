package pgstore

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/dovetail-go/dovetail/driver"
)

// ParseConfig is pgxpool.ParseConfig for a URL or a keyword/value string whose
// errors quote neither, and which refuses a URL that contradicts itself or holds
// what nobody reads. Connections of a pool that is made of it tell the store where a
// commit's wait for a standby was cancelled. A parameter that is none of the client's is a setting of the
// server's, which refuses those that it does not know.
func ParseConfig(conn string) (*pgxpool.Config, error) {
	if !strings.HasPrefix(conn, "postgres://") && !strings.HasPrefix(conn, "postgresql://") {
		config, err := pgxpool.ParseConfig(conn)
		if err != nil {
			return nil, withoutConn(err, &url.URL{})
		}
		hearCuts(config.ConnConfig)
		return config, nil
	}
	u, err := driver.ParseURL(conn)
	if err != nil {
		return nil, err
	}
	q, err := driver.Query(u)
	if err != nil {
		return nil, err
	}
	if err := checkParams(u, q); err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(conn)
	if err != nil {
		return nil, withoutConn(err, u)
	}
	if q.Has("sslrootcert") {
		plain := config.ConnConfig.TLSConfig == nil
		for _, f := range config.ConnConfig.Fallbacks {
			plain = plain || f.TLSConfig == nil
		}
		if plain {
			return nil, errors.New("parameter sslrootcert is there, and sslmode allows a connection without TLS: add sslmode=verify-full, or leave sslrootcert out")
		}
	}
	hearCuts(config.ConnConfig)
	return config, nil
}

// clientParams are the client's own among the parameters of a URL.
var clientParams = []string{
	"host", "port", "database", "dbname", "user", "password", "passfile", "connect_timeout", "target_session_attrs", "service", "servicefile",
	"sslmode", "sslkey", "sslcert", "sslcertmode", "sslrootcert", "sslnegotiation", "sslpassword", "sslsni", "krbspn", "krbsrvname",
	"min_protocol_version", "max_protocol_version", "channel_binding", "require_auth",
	"pool_max_conns", "pool_min_conns", "pool_min_idle_conns", "pool_max_conn_lifetime", "pool_max_conn_idle_time",
	"pool_health_check_period", "pool_max_conn_lifetime_jitter", "pool_ping_timeout",
}

// clientWords begin the names of the client's parameters, and no setting's of the
// server's: another name that begins so is a mistake, which must not wait until
// the password is on its way.
var clientWords = []string{"ssl", "tls", "pool", "krb", "gss", "require", "channel", "target", "pass", "host", "user"}

func checkParams(u *url.URL, q url.Values) error {
	for name := range q {
		mine := func(word string) bool { return strings.HasPrefix(strings.ToLower(name), word) }
		if !slices.Contains(clientParams, name) && slices.ContainsFunc(clientWords, mine) {
			return fmt.Errorf("unknown parameter %q: those of the client are %s", name, strings.Join(clientParams, ", "))
		}
	}
	_, password := u.User.Password()
	for name, is := range map[string]bool{
		"host": u.Host != "", "port": u.Port() != "", "user": u.User.Username() != "", "password": password,
		"database": len(u.Path) > 1, "dbname": len(u.Path) > 1,
	} {
		if is && q.Has(name) {
			return fmt.Errorf("parameter %s is there, and the URL says it before the ? as well: give it once", name)
		}
	}
	return nil
}

// withoutConn is err without the URL or string that pgx quotes in it.
func withoutConn(err error, u *url.URL) error {
	var parse *pgconn.ParseConfigError
	if errors.As(err, &parse) {
		what := *parse
		what.ConnString = ""
		text := strings.TrimPrefix(what.Error(), "cannot parse ``: ")
		if inner := errors.Unwrap(parse); inner != nil && u.Scheme == "" {
			text = strings.TrimSuffix(text, " ("+inner.Error()+")") // it may quote a value
		}
		err = fmt.Errorf("URL or keyword string cannot be read: %s", text)
	}
	return driver.RedactError(err, u)
}
