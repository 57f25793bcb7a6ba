package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// look asks the server what it is, what it was set to, and what the user of the
// URL may do to the store's tables.
func (s postgresURL) look(ctx context.Context, on pgxRunner) []checkup {
	return []checkup{s.lookServer(ctx, on), s.lookRights(ctx, on), s.lookConnections(ctx, on)}
}

// lookServer checks the version, and the settings that the promises assume.
func (s postgresURL) lookServer(ctx context.Context, on pgxRunner) checkup {
	var version, system string
	off := []string{}
	err := on.Query(ctx, `SELECT name, setting, boot_val FROM pg_settings
		WHERE name IN ('server_version', 'fsync', 'full_page_writes', 'synchronous_commit')`, nil, func(scan func(...any) error) error {
		var name, value string
		var usual *string // the version has none
		err := scan(&name, &value, &usual)
		switch {
		case name == "server_version":
			version = value
		case value == "off":
			off = append(off, name)
		}
		return err
	})
	if err != nil {
		return checkup{"store: server", broken, err.Error(), storeRemedy}
	}
	system = "PostgreSQL " + version
	switch {
	case len(off) == 1 && off[0] == "synchronous_commit":
		return checkup{"store: server", warning, system + " with synchronous_commit off: the last commits may be lost with the server, though none that was published",
			"set synchronous_commit = on"}
	case len(off) > 0:
		return checkup{"store: server", warning, system + " with " + strings.Join(off, " and ") + " off: a crash may lose or damage what was committed",
			"set them on in postgresql.conf, as PostgreSQL comes"}
	}
	return checkup{"store: server", fine, system + ", its settings keep what was committed", ""}
}

// lookRights checks that the tables can be read and written, and numbers taken of
// the sequence that one of them has as a default: an identity column's needs no
// right. The relay and the inbox's purge also truncate and delete.
func (s postgresURL) lookRights(ctx context.Context, on pgxRunner) checkup {
	var user string
	missing := []string{}
	err := on.Query(ctx, `SELECT current_user, relname, CASE relkind
			WHEN 'S' THEN ARRAY(SELECT p FROM unnest(ARRAY['USAGE']) p WHERE NOT has_sequence_privilege(c.oid, p))
			ELSE ARRAY(SELECT p FROM unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) p WHERE NOT has_table_privilege(c.oid, p)) END
		FROM pg_class c WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = coalesce(nullif($1, ''), current_schema()))
			AND (relkind IN ('r', 'p') OR relkind = 'S' AND NOT EXISTS (
				SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'i'))
			AND starts_with(relname, lower($2)) AND relname <> lower($2) || 'migration'
		ORDER BY relname`, []any{s.schema, or(s.prefix, "dovetail_")}, func(scan func(...any) error) error {
		var table string
		var rights []string
		err := scan(&user, &table, &rights)
		if table == "" || len(rights) == 0 {
			return err
		}
		missing = append(missing, strings.Join(rights, ", ")+" on "+table)
		return err
	})
	switch {
	case err != nil:
		return checkup{"store: permissions", broken, err.Error(), storeRemedy}
	case len(missing) > 0:
		shown := missing[:min(3, len(missing))]
		detail := fmt.Sprintf("%s may not %s", user, strings.Join(shown, "; "))
		if more := len(missing) - len(shown); more > 0 {
			detail += fmt.Sprintf("; and %d more", more)
		}
		schema := or(s.schema, "public")
		return checkup{"store: permissions", broken, detail, fmt.Sprintf("have the tables' owner run: GRANT ALL ON ALL TABLES IN SCHEMA %[1]s TO %[2]s; GRANT ALL ON ALL SEQUENCES IN SCHEMA %[1]s TO %[2]s",
			pgx.Identifier{schema}.Sanitize(), pgx.Identifier{user}.Sanitize())}
	}
	return checkup{"store: permissions", fine, user + " may read and write all tables", ""}
}

// fewConnections is how many there should be left: one process of a service uses
// up to 26 by default.
const fewConnections = 26

// lookConnections checks that there is room for another process.
func (s postgresURL) lookConnections(ctx context.Context, on pgxRunner) checkup {
	var most, used int
	err := on.Query(ctx, `SELECT current_setting('max_connections')::int, count(*)::int FROM pg_stat_activity WHERE backend_type = 'client backend'`,
		nil, func(scan func(...any) error) error { return scan(&most, &used) })
	switch {
	case err != nil:
		return checkup{"store: connections", broken, err.Error(), storeRemedy}
	case most-used < fewConnections:
		return checkup{"store: connections", warning, fmt.Sprintf("%d of %d are taken, and a process of a service may want %d more", used, most, fewConnections),
			"raise max_connections, or lower Options.Conns of the stores (pool_max_conns in their URLs)"}
	}
	return checkup{"store: connections", fine, fmt.Sprintf("%d of %d are taken", used, most), ""}
}
