package verify

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// tables are verify's own: with the writers, the number of each key and what
// was sent; with the consumers, the position of each group and key and the
// effects. Numbers and positions are taken from a row that the transaction then
// has locked, so that their order is the order of the commits.
type tables struct {
	run    Runner
	prefix string
}

var schema = []string{
	`CREATE TABLE ~number (ky VARCHAR(100) NOT NULL PRIMARY KEY, path VARCHAR(100) NOT NULL, n BIGINT NOT NULL)`,
	`CREATE TABLE ~sent (ky VARCHAR(100) NOT NULL, n BIGINT NOT NULL, id VARCHAR(100) NOT NULL, tx VARCHAR(100) NOT NULL,
		sum BIGINT NOT NULL, at BIGINT NOT NULL, PRIMARY KEY (ky, n))`,
	`CREATE TABLE ~position (grp VARCHAR(100) NOT NULL, ky VARCHAR(100) NOT NULL, n BIGINT NOT NULL, PRIMARY KEY (grp, ky))`,
	`CREATE TABLE ~effect (grp VARCHAR(100) NOT NULL, ky VARCHAR(100) NOT NULL, pos BIGINT NOT NULL, id VARCHAR(100) NOT NULL,
		n BIGINT NOT NULL, sum BIGINT NOT NULL, at BIGINT NOT NULL, who VARCHAR(100) NOT NULL, PRIMARY KEY (grp, ky, pos))`,
}

// sql returns a statement with the names of these tables.
func (t tables) sql(text string) string { return strings.ReplaceAll(text, "~", t.prefix) }

func (t tables) create(ctx context.Context) error {
	for _, s := range schema {
		if err := t.run.Exec(ctx, t.sql(s)); err != nil {
			return fmt.Errorf("make verify's own tables: %w", err)
		}
	}
	return nil
}

func (t tables) number(ctx context.Context, query string, args ...any) (n int64, err error) {
	err = t.run.Query(ctx, t.sql(query), args, func(scan func(...any) error) error { return scan(&n) })
	return n, err
}

// next locks a key of a path and returns its next number.
func (t tables) next(ctx context.Context, path, key string) (int64, error) {
	return t.number(ctx, `INSERT INTO ~number (ky, path, n) VALUES ($1, $2, 1)
		ON CONFLICT (ky) DO UPDATE SET n = ~number.n + 1 RETURNING n`, key, path)
}

// wrote notes down what is published if the transaction commits.
func (t tables) wrote(ctx context.Context, s Sent) error {
	return t.run.Exec(ctx, t.sql(`INSERT INTO ~sent (ky, n, id, tx, sum, at) VALUES ($1, $2, $3, $4, $5, $6)`),
		s.Key, s.N, s.ID, s.Tx, int64(s.Sum), s.At.UnixMicro())
}

// did notes an effect down, behind those of its group and key.
func (t tables) did(ctx context.Context, e Effect) error {
	pos, err := t.number(ctx, `INSERT INTO ~position (grp, ky, n) VALUES ($1, $2, 1)
		ON CONFLICT (grp, ky) DO UPDATE SET n = ~position.n + 1 RETURNING n`, e.Group, e.Key)
	if err != nil {
		return err
	}
	return t.run.Exec(ctx, t.sql(`INSERT INTO ~effect (grp, ky, pos, id, n, sum, at, who) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`),
		e.Group, e.Key, pos, e.ID, e.N, int64(e.Sum), e.At.UnixMicro(), e.Who)
}

// committed is how many messages of each path were, by the keys' numbers.
func (t tables) committed(ctx context.Context) (map[string]int64, error) {
	return t.sums(ctx, `SELECT path, CAST(sum(n) AS BIGINT) FROM ~number GROUP BY path`)
}

// effects is how many each group has, by its keys' positions.
func (t tables) effects(ctx context.Context) (map[string]int64, error) {
	return t.sums(ctx, `SELECT grp, CAST(sum(n) AS BIGINT) FROM ~position GROUP BY grp`)
}

// handled is how many different messages each group has effects of, by their
// keys and numbers. An invented one mostly has the number of a committed one; one
// that was rolled back as the last of its key counts as one more.
func (t tables) handled(ctx context.Context) (map[string]int64, error) {
	return t.sums(ctx, `SELECT grp, count(*) FROM (SELECT DISTINCT grp, ky, n FROM ~effect) AS once GROUP BY grp`)
}

// messages is how many different messages a group has effects of, one of them left
// out.
func (t tables) messages(ctx context.Context, group, without string) (int64, error) {
	return t.number(ctx, `SELECT count(DISTINCT id) FROM ~effect WHERE grp = $1 AND id <> $2`, group, without)
}

func (t tables) sums(ctx context.Context, query string) (map[string]int64, error) {
	all := map[string]int64{}
	err := t.run.Query(ctx, t.sql(query), nil, func(scan func(...any) error) error {
		var name string
		var n int64
		err := scan(&name, &n)
		all[name] = n
		return err
	})
	return all, err
}

func (t tables) readSent(ctx context.Context, f func(Sent) error) error {
	return t.run.Query(ctx, t.sql(`SELECT ky, n, id, tx, sum, at FROM ~sent ORDER BY ky, n`), nil, func(scan func(...any) error) error {
		var s Sent
		var sum, at int64
		if err := scan(&s.Key, &s.N, &s.ID, &s.Tx, &sum, &at); err != nil {
			return err
		}
		s.Sum, s.At = uint32(sum), time.UnixMicro(at)
		return f(s)
	})
}

func (t tables) readEffects(ctx context.Context, f func(Effect) error) error {
	return t.run.Query(ctx, t.sql(`SELECT grp, ky, pos, id, n, sum, at, who FROM ~effect ORDER BY grp, ky, pos`), nil, func(scan func(...any) error) error {
		var e Effect
		var sum, at int64
		if err := scan(&e.Group, &e.Key, &e.Pos, &e.ID, &e.N, &sum, &at, &e.Who); err != nil {
			return err
		}
		e.Sum, e.At = uint32(sum), time.UnixMicro(at)
		return f(e)
	})
}
