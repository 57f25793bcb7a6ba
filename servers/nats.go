package servers

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
)

// NATS is nats-server with JetStream on files, built from source at a pinned
// version. It syncs its files every two minutes, as it comes: a power cut loses
// that much, a kill nothing. Port "monitor" answers HTTP.
var NATS Kind = nats{}

type nats struct{}

// The module that the server is built in. To move to another version: go get
// and go mod tidy in a copy of it.
var (
	//go:embed pinned/nats-server.mod
	natsMod string
	//go:embed pinned/nats-server.sum
	natsSum string

	natsVersion = regexp.MustCompile(`nats-server/v2 (v\S+)`).FindStringSubmatch(natsMod)[1]
)

const natsPackage = "github.com/nats-io/nats-server/v2"

func (nats) Name() string    { return "nats" }
func (nats) Ports() []string { return []string{"nats", "monitor", "route"} }

func (nats) Installed() bool { return isFile(cached("nats-server-" + natsVersion)) }

func (nats) Install(ctx context.Context, log io.Writer) error {
	if _, err := exec.LookPath("go"); err != nil {
		return fmt.Errorf("build nats-server: %w; put Go's bin directory on the PATH", err)
	}
	dir := cached("build-nats-server")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	err := errors.Join(os.WriteFile(filepath.Join(dir, "go.mod"), []byte(natsMod), 0o644),
		os.WriteFile(filepath.Join(dir, "go.sum"), []byte(natsSum), 0o644))
	if err != nil {
		return err
	}
	// One that is interrupted leaves nothing under the name that is looked for.
	const name = "nats-server.new"
	// No flags of ours: what the workspace compiled for the same packages serves.
	if err := run(ctx, log, dir, []string{"GOWORK=off"}, "go", "build", "-o", name, natsPackage); err != nil {
		return err
	}
	return os.Rename(filepath.Join(dir, name), cached("nats-server-"+natsVersion))
}

const natsConf = `listen: "%s"
http: "%s"
server_name: "%s"
jetstream { store_dir: "%s", max_memory_store: 256MB, max_file_store: 20GB }
max_payload: 8MB
`

// natsNode is what a node of a cluster has beside.
const natsNode = `cluster { name: "dovetail", listen: "%s", routes: ["%s"] }
`

func (nats) Prepare(_ context.Context, in *Instance) error {
	name := "dovetail"
	if in.Nodes != nil {
		name = fmt.Sprintf("node%d", in.Node+1)
	}
	conf := fmt.Sprintf(natsConf, in.Addr("nats"), in.Addr("monitor"), name, in.Path("data"))
	if in.Nodes != nil {
		routes := addresses(in.Nodes, "route")
		conf += fmt.Sprintf(natsNode, in.Addr("route"), "nats://"+strings.Join(routes, `", "nats://`))
	}
	return os.WriteFile(in.Path("nats.conf"), []byte(conf), 0o644)
}

func (nats) Command(in *Instance) Command {
	return Command{Args: []string{cached("nats-server-" + natsVersion), "-c", in.Path("nats.conf")}}
}

func (nats) URL(in *Instance) string { return "nats://" + in.Addr("nats") }

func (nats) ClusterURL(nodes []*Instance) string {
	return fmt.Sprintf("nats://%s?replicas=%d", strings.Join(addresses(nodes, "nats"), ","), len(nodes))
}

func (nats) Helper() Kind   { return nil }
func (nats) MostNodes() int { return maxNodes }

// Probe reads the greeting, which tells whether JetStream is on, and has a ping
// answered. A node of a cluster must also have its copies up to date.
func (nats) Probe(ctx context.Context, in *Instance) (version string, err error) {
	conn, err := dial(ctx, in.Addr("nats"))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	r := bufio.NewReader(conn)
	line, err := r.ReadString('\n')
	if err != nil {
		return "", err
	}
	var info struct {
		Version   string
		JetStream bool
	}
	text, ok := strings.CutPrefix(line, "INFO ")
	if !ok {
		return "", fmt.Errorf("its greeting is %q: something else listens there", line)
	}
	if err := json.Unmarshal([]byte(text), &info); err != nil {
		return "", err
	}
	if !info.JetStream {
		return "", errors.New("JetStream is not up")
	}
	if _, err := io.WriteString(conn, "CONNECT {\"verbose\":false}\r\nPING\r\n"); err != nil {
		return "", err
	}
	if line, err = r.ReadString('\n'); err == nil && line != "PONG\r\n" {
		err = fmt.Errorf("it answers a ping with %q", line)
	}
	if err == nil && in.Nodes != nil {
		err = natsHealth(ctx, in.Addr("monitor"))
	}
	return info.Version, err
}

// natsHealth asks a node whether it has a leader and all that it keeps copies of.
func natsHealth(ctx context.Context, addr string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/healthz", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 1<<10))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("it is not well: %s", text)
	}
	return err
}
