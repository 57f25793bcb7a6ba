package pgstore

import (
	"fmt"
	"strings"

	"github.com/dovetail-go/dovetail/store"
)

// leaves is how many leaf partitions the outbox has. Each is written for a
// minute, so that one that is full has seven minutes to be published and to be
// retired before it is written again.
const leaves = 8

// schema returns every step. In its text, ~ stands for the prefix with the
// schema, and ^ for the prefix alone, where PostgreSQL wants a plain name.
func schema(shards int) []store.Migration {
	var b, u, identity strings.Builder
	for i := range leaves {
		fmt.Fprintf(&identity, "ALTER TABLE ~outbox_%d REPLICA IDENTITY FULL;\n", i)
		fmt.Fprintf(&u, "\tWHEN %[1]d THEN UPDATE ~outbox_%[1]d SET seq = nextval('~seq') WHERE shard = NEW.shard AND seq = NEW.seq;\n", i)
		fmt.Fprintf(&b, "CREATE TABLE ~outbox_%[1]d PARTITION OF ~outbox FOR VALUES IN (%[1]d);\n", i)
	}
	return []store.Migration{{
		Version: 1,
		Name:    "outbox, inbox, leases",
		SQL: strings.NewReplacer("-- leaves\n", b.String(), "-- updates\n", u.String(),
			"-- shards\n", fmt.Sprintf("INSERT INTO ~setting (name, value) VALUES ('shards', '%d');\n", shards)).Replace(first),
	}, {
		// A leaf has no key, and PostgreSQL refuses to update or delete a row of
		// a table that is published and has no replica identity: with a
		// publication FOR ALL TABLES no row could get its number at the commit, or be deleted.
		// The whole row costs nothing where wal_level is not logical.
		Version: 2,
		Name:    "held messages that are being tried, publications of all tables",
		SQL: "ALTER TABLE ~lane ADD COLUMN taken timestamptz NOT NULL DEFAULT '-infinity'; -- until when\n" +
			identity.String(),
	}}
}

// first is the first step. seq comes from a sequence that hands out one number
// at a time: with a larger cache, sessions would number out of order. Partitions
// go by the minute, so that a published one can be truncated, which leaves no
// dead rows; which of them is written is the writer's clock's affair, and
// nothing but the time of retirement depends on it. Keys are compared byte by byte:
// a language's order, which nobody asks for, takes longer to tell.
const first = `CREATE TABLE ~migration (
	version integer PRIMARY KEY,
	name    text NOT NULL,
	at      timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE ~setting (
	name  text PRIMARY KEY,
	value text NOT NULL
);
-- shards
CREATE SEQUENCE ~seq CACHE 1;
CREATE FUNCTION ~slot() RETURNS smallint LANGUAGE sql VOLATILE AS
	'SELECT (floor(pg_catalog.date_part(''epoch'', pg_catalog.clock_timestamp()) / 60)::bigint % 8)::smallint';
CREATE TABLE ~outbox (
	xid     xid8 NOT NULL DEFAULT pg_current_xact_id(),
	seq     bigint NOT NULL DEFAULT nextval('~seq'),
	slot    smallint NOT NULL DEFAULT ~slot(),
	shard   smallint NOT NULL,
	reorder boolean NOT NULL DEFAULT true, -- number it anew at commit
	written timestamptz NOT NULL DEFAULT clock_timestamp(),
	id      text NOT NULL,
	channel text NOT NULL,
	key     text NOT NULL,
	headers text NOT NULL,
	body    bytea
) PARTITION BY LIST (slot);
-- leaves
CREATE INDEX ^outbox_xid ON ~outbox (shard, xid);
CREATE INDEX ^outbox_seq ON ~outbox (shard, seq);
ALTER SEQUENCE ~seq OWNED BY ~outbox.seq;
CREATE FUNCTION ~reorder() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	CASE NEW.slot -- to name the leaf is much faster than to have it found
-- updates
	END CASE;
	RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER ^reorder AFTER INSERT ON ~outbox
	DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.reorder) EXECUTE FUNCTION ~reorder();
CREATE TABLE ~cursor (
	shard       smallint PRIMARY KEY,
	service     text NOT NULL,
	incarnation text NOT NULL,
	system      text NOT NULL, -- identifier of the cluster, which a restore changes
	win         bigint NOT NULL,
	after       bigint NOT NULL,
	covered     pg_snapshot -- what it sees is published and not needed any more
) WITH (fillfactor = 50);
CREATE TABLE ~window (
	shard    smallint NOT NULL,
	n        bigint NOT NULL,
	snapshot pg_snapshot NOT NULL, -- its end, and the beginning of the next
	lo       bigint, -- its first seq, exactly
	hi       bigint, -- its last
	PRIMARY KEY (shard, n)
);
CREATE TABLE ~lease (
	name   text PRIMARY KEY,
	holder text NOT NULL,
	term   bigint NOT NULL,
	until  timestamptz NOT NULL,
	system text NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE ~lane (
	channel  text COLLATE "C" NOT NULL,
	name     text COLLATE "C" NOT NULL,
	shard    smallint NOT NULL,
	attempts integer NOT NULL,
	error    text NOT NULL,
	retry    timestamptz NOT NULL,
	PRIMARY KEY (channel, name)
);
CREATE INDEX ^lane_retry ON ~lane (shard, retry);
CREATE TABLE ~held (
	seq      bigint PRIMARY KEY, -- of the outbox
	shard    smallint NOT NULL,
	id       text NOT NULL,
	channel  text COLLATE "C" NOT NULL,
	key      text NOT NULL,
	headers  text NOT NULL,
	body     bytea,
	lane     text COLLATE "C" NOT NULL,
	since    timestamptz NOT NULL,
	released timestamptz -- when it was published; null: it was not
);
CREATE INDEX ^held_lane ON ~held (channel, lane, seq) WHERE released IS NULL;
CREATE INDEX ^held_shard ON ~held (shard, seq) WHERE released IS NULL;
CREATE INDEX ^held_released ON ~held (shard, released) WHERE released IS NOT NULL;
CREATE TABLE ~later (
	n       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	shard   smallint NOT NULL,
	due     timestamptz NOT NULL,
	source  text COLLATE "C" NOT NULL,
	id      text COLLATE "C" NOT NULL,
	channel text NOT NULL,
	key     text NOT NULL,
	headers text NOT NULL,
	body    bytea
);
CREATE INDEX ^later_due ON ~later (shard, due, n);
CREATE INDEX ^later_id ON ~later (id, source);
CREATE TABLE ~token (
	token text COLLATE "C" PRIMARY KEY,
	at    timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE ~inbox (
	grp          text COLLATE "C" NOT NULL,
	handler      text COLLATE "C" NOT NULL,
	source       text COLLATE "C" NOT NULL,
	id           text COLLATE "C" NOT NULL,
	state        text NOT NULL,
	requeues     integer NOT NULL,
	since        timestamptz NOT NULL,
	status       text NOT NULL DEFAULT '',
	content_type text NOT NULL DEFAULT '',
	reply        bytea,
	PRIMARY KEY (id, source, handler, grp) -- by what tells rows apart first: a third less to insert
);
CREATE INDEX ^inbox_since ON ~inbox (since) WHERE state = 'handled';
`
