package servers

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Postgres is Debian's PostgreSQL, with logical decoding on and every
// durability setting as it comes: fsync, synchronous_commit and
// full_page_writes are on. The user is postgres, the superuser, without a
// password.
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
port = %d
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
log_line_prefix = '%%m [%%p] '
`

func (p postgres) Prepare(ctx context.Context, in *Instance) error {
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
	_, err = fmt.Fprintf(f, postgresConf, in.Ports["postgres"])
	return errors.Join(err, f.Close())
}

func (postgres) Command(in *Instance) Command {
	return Command{
		// Its own lock file stops it for as long as any process has the number
		// that it had, be it a dead one that init has not asked about yet.
		Args: []string{"sh", "-c", `rm -f "$2/postmaster.pid" && exec "$1" -D "$2"`, "sh",
			postgresBin("postgres"), in.Path("data")},
		User: "postgres", // it refuses to run as root
		Stop: syscall.SIGINT,
	}
}

func (postgres) URL(in *Instance) string {
	return "postgres://postgres@" + in.Addr("postgres") + "/postgres?sslmode=disable"
}

// Probe opens a session, which is refused while the server recovers, and asks
// for a row.
func (postgres) Probe(ctx context.Context, in *Instance) (version string, err error) {
	conn, err := dial(ctx, in.Addr("postgres"))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	const protocol = 3 << 16
	start := binary.BigEndian.AppendUint32(nil, protocol)
	start = append(start, "user\x00postgres\x00database\x00postgres\x00\x00"...)
	start = append(binary.BigEndian.AppendUint32(nil, uint32(4+len(start))), start...)
	if _, err := conn.Write(start); err != nil {
		return "", err
	}
	if version, err = postgresUntilReady(conn); err != nil {
		return "", err
	}
	const query = "SELECT 1\x00"
	ask := append(binary.BigEndian.AppendUint32([]byte{'Q'}, uint32(4+len(query))), query...)
	if _, err := conn.Write(ask); err != nil {
		return "", err
	}
	_, err = postgresUntilReady(conn)
	_, _ = conn.Write([]byte{'X', 0, 0, 0, 4}) // a farewell, so that its log has no complaint
	return version, err
}

// postgresUntilReady reads messages up to ReadyForQuery.
func postgresUntilReady(r io.Reader) (version string, err error) {
	for {
		var head [5]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return "", err
		}
		n := binary.BigEndian.Uint32(head[1:])
		if n < 4 || n > 1<<20 {
			return "", fmt.Errorf("a message of %d bytes: something else listens there", n)
		}
		body := make([]byte, n-4)
		if _, err := io.ReadFull(r, body); err != nil {
			return "", err
		}
		fields := strings.Split(string(body), "\x00")
		switch head[0] {
		case 'Z':
			return version, nil
		case 'E':
			return "", fmt.Errorf("it says %s", strings.Join(fields, " "))
		case 'S':
			if fields[0] == "server_version" {
				version, _, _ = strings.Cut(fields[1], " ")
			}
		}
	}
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
