// Package servers starts the real servers that Dovetail is tested against and
// tried out with: a database or a broker of the kind that runs in production,
// on private loopback ports, with a directory of its own and a small heap.
//
// A test says which one it needs and gets it:
//
//	srv := servers.Start(t, servers.Postgres)
//	db, err := sql.Open("pgx", srv.URL())
//	…
//	err = srv.Kill()       // SIGKILL, as a crash would
//	err = srv.Restart(ctx) // the same data, the same ports
//
// What is missing on the machine is installed first: Debian packages with
// apt-get, Java programs with Maven, Go programs with go build at versions
// pinned here. Downloads and builds are kept in [CacheDir], so that this
// happens once; a lock keeps test binaries that run side by side from doing it
// at the same time. A server that cannot be had is an error that names the
// remedy, never a skipped test.
//
// A server ends with the test that started it. It also ends, and its directory
// goes, when the test's process is killed: a small watchdog sees to that.
//
// The program in cmd/servers starts the same servers for a shell.
//
// Where the servers run is Linux; what has to be installed is installed on
// Debian and its descendants. compose.yaml has the same servers on their usual
// ports, to try things out elsewhere; tests do not use those, since they kill
// and restart theirs.
package servers
