package servers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Postgres is Debian's PostgreSQL, with logical decoding on and every
// durability setting as it comes: fsync, synchronous_commit and
// full_page_writes are on. The user is postgres, the superuser, without a
// password. As a cluster it is a primary and a synchronous standby; see
// [Cluster.Promote].
var Postgres Kind = postgres{}

type postgres struct{}

func (postgres) Name() string    { return "postgres" }
func (postgres) Ports() []string { return []string{"postgres"} }

func (postgres) Installed() bool { return postgresBin("initdb") != "" && postgresBin("postgres") != "" }

func (postgres) Install(ctx context.Context, log io.Writer) error {
	return aptInstall(ctx, log, "postgresql")
}

// postgresBin finds one of PostgreSQL's programs, of the newest version there
// is. Debian does not put them on the PATH.
func postgresBin(name string) string {
	all, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(all) > 0 {
		return slices.MaxFunc(all, func(a, b string) int {
			if len(a) != len(b) {
				return len(a) - len(b) // 9 is older than 15
			}
			return strings.Compare(a, b)
		})
	}
	found, err := exec.LookPath(name)
	if err != nil {
		return ""
	}
	return found
}

// postgresConf goes after what initdb wrote. Memory is small: a test's tables
// are. What it does not name has PostgreSQL's default.
const postgresConf = `
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 200
shared_buffers = 64MB
wal_level = logical
max_replication_slots = 20
max_wal_senders = 20
max_prepared_transactions = 20
fsync = on
synchronous_commit = on
full_page_writes = on
logging_collector = off
log_line_prefix = '%m [%p] '
`

func (p postgres) Prepare(ctx context.Context, in *Instance) error {
	if in.Node > 0 {
		return fence(in)
	}
	// What initdb writes need not be synced: nobody has been promised it.
	cmd := exec.CommandContext(ctx, postgresBin("initdb"), "--pgdata="+in.Path("data"), "--username=postgres",
		"--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions")
	c := p.Command(in)
	cmd.Dir, cmd.Env = in.Dir, environment(c, in.Dir)
	if err := become(cmd, c.User); err != nil {
		return err
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w; TMPDIR has to be a directory that the user postgres can enter; it said:\n%s", err, out)
	}
	f, err := os.OpenFile(in.Path("data", "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	conf := postgresConf
	if in.Nodes != nil {
		conf += pairConf
	}
	_, err = f.WriteString(conf)
	return errors.Join(err, f.Close())
}

func (postgres) Command(in *Instance) Command {
	c := Command{
		// Its own lock file stops it for as long as any process has the number
		// that it had, be it a dead one that init has not asked about yet.
		Args: []string{"sh", "-c", `rm -f "$2/postmaster.pid" && exec "$1" -D "$2" -p "$3"`, "sh",
			postgresBin("postgres"), in.Path("data"), strconv.Itoa(in.Ports["postgres"])},
		User: "postgres", // it refuses to run as root
		Stop: syscall.SIGINT,
	}
	if in.Nodes != nil {
		c.Args[2] = copyPrimary + c.Args[2]
		c.Args = append(c.Args, in.Path(fenceFile), postgresBin("pg_basebackup"), pairConninfo(in))
	}
	return c
}

func (postgres) URL(in *Instance) string {
	return "postgres://postgres@" + in.Addr("postgres") + "/postgres?sslmode=disable"
}

// Probe opens a session, which is refused while the server recovers, and asks
// for a row.
func (postgres) Probe(ctx context.Context, in *Instance) (version string, err error) {
	if in.Nodes == nil {
		_, version, err = postgresAsk(ctx, in, "SELECT 1")
		return version, err
	}
	answer, version, err := postgresAsk(ctx, in, followsSQL)
	if err == nil && answer != "t" {
		err = errors.New("it is a standby: it follows no primary")
	}
	return version, err
}

// dial connects for a probe. The connection ends with ctx at the latest.
func dial(ctx context.Context, addr string) (net.Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		err = conn.SetDeadline(deadline)
	}
	return conn, err
}
