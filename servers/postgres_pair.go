package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// A cluster of PostgreSQL is a pair: a primary, whose commits wait until the
// standby has them on disk, and the standby, which follows it. Nothing in
// PostgreSQL makes the standby the primary when that is gone, or has the primary
// go on alone when the standby is: [Cluster.Promote] and [FailOver] do.

// pairConf goes after postgresConf, on both. A standby calls itself walreceiver,
// and a copy that is being made of the data something else: it is none to wait
// for. The primary keeps what a standby needs that was away for a while. A standby
// that has lost its primary sleeps for a time before it looks again, and is promoted
// only then.
const pairConf = `
synchronous_standby_names = 'walreceiver'
wal_keep_size = 128MB
wal_retrieve_retry_interval = 500ms
`

// fenceFile is beside the data of a node that must not be started as it is: it
// begins as a copy of the other one's data, as its standby.
const fenceFile = "fenced"

// copyPrimary goes before the command that starts a server. What it writes need
// not be synced: the machine stays up.
const copyPrimary = `if [ -e "$4" ]; then
	until rm -rf "$2" && "$5" --pgdata="$2" --dbname="$6" --write-recovery-conf --checkpoint=fast --no-sync; do sleep 0.2; done
	rm "$4"
fi
`

func (postgres) Helper() Kind   { return nil }
func (postgres) MostNodes() int { return 2 }

// ClusterURL has both nodes; a client takes the one that accepts writes. A frozen
// one takes connections and says nothing, which connect_timeout bounds.
func (postgres) ClusterURL(nodes []*Instance) string {
	return "postgres://postgres@" + strings.Join(addresses(nodes, "postgres"), ",") +
		"/postgres?sslmode=disable&target_session_attrs=read-write&connect_timeout=2"
}

// pairConninfo is how a node connects to the other one.
func pairConninfo(in *Instance) string {
	other := in.Nodes[1-in.Node]
	return "host=" + loopback + " port=" + strconv.Itoa(other.Ports["postgres"]) + " user=postgres"
}

// fence keeps a node from being started on the data that it has.
func fence(in *Instance) error {
	if !isDir(in.Dir) {
		return nil // it is lost
	}
	return os.WriteFile(in.Path(fenceFile), nil, 0o644)
}

const (
	// followsSQL is true of a primary and of a standby that gets what its primary
	// writes.
	followsSQL = `SELECT NOT pg_is_in_recovery() OR EXISTS (SELECT FROM pg_stat_wal_receiver WHERE status = 'streaming')`
	// followersSQL tells of a primary how many standbys get what it writes; it is
	// nothing of a standby.
	followersSQL = `SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND NOT pg_is_in_recovery() HAVING NOT pg_is_in_recovery()`
	// waitsSQL tells of a primary how many standbys its commits wait for.
	waitsSQL = `SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'`

	// checkpointSQL returns when the checkpointer, which alone has commits wait or
	// not, has taken notice of the settings that it was told of before.
	checkpointSQL = `CHECKPOINT`

	aloneSQL    = `ALTER SYSTEM SET synchronous_standby_names = ''`
	togetherSQL = `ALTER SYSTEM RESET synchronous_standby_names`
	reloadSQL   = `SELECT pg_reload_conf()`
	// promoteSQL does not wait: a statement that does keeps a snapshot, and what the
	// standby still has to replay may have to wait for that, up to
	// max_standby_streaming_delay, before the promotion.
	promoteSQL = `SELECT pg_promote(false)`
	commitSQL  = `SELECT pg_logical_emit_message(true, 'pair', '')` // with a commit that waits as all do
)

// tell runs statements one after the other.
func tell(ctx context.Context, in *Instance, statements ...string) error {
	_, _, err := postgresAskAll(ctx, in, statements...)
	return err
}

// leads reports whether a node is a primary.
func leads(ctx context.Context, in *Instance) (bool, error) {
	standby, _, err := postgresAsk(ctx, in, `SELECT pg_is_in_recovery()`)
	return standby == "f", err
}

// Promote makes a node of a PostgreSQL pair its primary, in the place of the
// other one. That is fenced first, so that never two accept writes: it is killed
// if it runs, and when it is started again it begins as a copy of the new primary
// and follows that. The new primary waits for no standby until [Cluster.Pair] has
// it wait again. Promote returns when it commits.
//
// What the old primary had committed and the standby had not got is gone. With a
// synchronous standby that is nothing that a client was told of.
func (c *Cluster) Promote(ctx context.Context, node *Server) error {
	if _, ok := c.kind.(postgres); !ok {
		return fmt.Errorf("promote %s: %s chooses its leader itself", node.Name(), c.Name())
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	if lead, err := leads(ctx, &node.in); err != nil {
		return fmt.Errorf("promote %s: %w", node.Name(), err)
	} else if lead {
		return fmt.Errorf("promote %s: it is the primary", node.Name())
	}
	for _, other := range c.nodes {
		if other != node {
			if err := errors.Join(other.Kill(), fence(&other.in)); err != nil {
				return fmt.Errorf("promote %s: fence the other node: %w", node.Name(), err)
			}
		}
	}
	err := tell(ctx, &node.in, aloneSQL, reloadSQL, promoteSQL)
	if err == nil {
		err = poll(ctx, 20*time.Millisecond, func() bool {
			lead, askErr := leads(ctx, &node.in)
			return askErr == nil && lead
		})
	}
	if err == nil {
		err = tell(ctx, &node.in, commitSQL)
	}
	if err != nil {
		return fmt.Errorf("promote %s: %w", node.Name(), err)
	}
	return nil
}

// Pair has the primary of a PostgreSQL pair wait for its standby again, once that
// follows. It reports whether commits wait for the standby now, and the standby
// has all that was committed before. The first time it may report so too early: the
// settings are read by one process of the server after the other. It is certain
// when Pair has reported it twice in a row.
func (c *Cluster) Pair(ctx context.Context) (bool, error) {
	for _, s := range c.nodes {
		following, _, err := postgresAsk(ctx, &s.in, followersSQL)
		switch {
		case err != nil || following == "":
			continue // it is down, or a standby
		case following == "0":
			return false, nil
		}
		answers, _, err := postgresAskAll(ctx, &s.in, togetherSQL, reloadSQL, checkpointSQL, waitsSQL, commitSQL)
		return err == nil && answers[3] != "0", err
	}
	return false, errors.New("the pair has no primary that answers: promote a node")
}

// pair waits until a primary waits for its standby, if c is of PostgreSQL.
func (c *Cluster) pair(ctx context.Context) (err error) {
	if _, ok := c.kind.(postgres); !ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	waits := 0
	waitErr := poll(ctx, 50*time.Millisecond, func() bool {
		var ok bool
		if ok, err = c.Pair(ctx); ok {
			waits++
		} else {
			waits = 0
		}
		return waits > 1 || err != nil
	})
	return errors.Join(err, waitErr)
}
