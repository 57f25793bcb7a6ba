package servers

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
)

// PgBouncer is Debian's PgBouncer in front of the PostgreSQL server at an
// address, in transaction mode: a client gets another of the server's sessions
// with each transaction. It knows no prepared statements of clients. The user is
// postgres.
func PgBouncer(upstream string) Kind { return pgbouncer{upstream: upstream} }

type pgbouncer struct {
	postgres
	upstream string
}

func (pgbouncer) Name() string { return "pgbouncer" }

func pgbouncerBin() string {
	for _, path := range []string{"/usr/sbin/pgbouncer", "/usr/local/sbin/pgbouncer"} {
		if info, err := os.Stat(path); err == nil && !info.IsDir() {
			return path
		}
	}
	found, err := exec.LookPath("pgbouncer")
	if err != nil {
		return ""
	}
	return found
}

func (b pgbouncer) Installed() bool { return pgbouncerBin() != "" && b.postgres.Installed() }

// Install brings PostgreSQL as well, whose user it runs as.
func (pgbouncer) Install(ctx context.Context, log io.Writer) error {
	return aptInstall(ctx, log, "postgresql", "pgbouncer")
}

const pgbouncerConf = `[databases]
* = host=%s port=%s user=postgres

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 8
max_client_conn = 500
`

func (b pgbouncer) Prepare(_ context.Context, in *Instance) error {
	host, port, err := net.SplitHostPort(b.upstream)
	if err != nil {
		return err
	}
	return os.WriteFile(in.Path("pgbouncer.ini"), fmt.Appendf(nil, pgbouncerConf, host, port, in.Ports["postgres"]), 0o644)
}

func (pgbouncer) Command(in *Instance) Command {
	return Command{Args: []string{pgbouncerBin(), in.Path("pgbouncer.ini")}, User: "postgres"}
}
