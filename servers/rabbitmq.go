package servers

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// RabbitMQ is Debian's RabbitMQ, with classic and quorum queues and
// streams. Ports "management" (HTTP) and "stream" are those of the plugins.
// The user is guest, the password guest.
var RabbitMQ Kind = rabbitmq{}

type rabbitmq struct{}

// The script in /usr/sbin changes the user; this is the one that it runs.
const rabbitmqServer = "/usr/lib/rabbitmq/bin/rabbitmq-server"

func (rabbitmq) Name() string { return "rabbitmq" }

func (rabbitmq) Ports() []string {
	return []string{"amqp", "management", "stream", "distribution", "epmd"}
}

func (rabbitmq) Installed() bool { return isFile(rabbitmqServer) && isFile("/usr/bin/epmd") }

func (rabbitmq) Install(ctx context.Context, log io.Writer) error {
	return aptInstall(ctx, log, "rabbitmq-server")
}

// rabbitmqConf: the limits on free memory and disk are those of a machine that
// does other things as well; the small log of the quorum queues keeps memory
// small, since RabbitMQ holds what is in it.
const rabbitmqConf = `listeners.tcp.default = 127.0.0.1:%d
management.tcp.ip = 127.0.0.1
management.tcp.port = %d
stream.listeners.tcp.default = 127.0.0.1:%d
stream.advertised_host = 127.0.0.1
stream.advertised_port = %d
raft.wal_max_size_bytes = 64000000
disk_free_limit.absolute = 50MB
vm_memory_high_watermark.absolute = 1GB
log.console = true
log.console.level = info
log.console.use_colors = off
log.file = false
`

// rabbitmqNodeConf is what a node of a cluster has beside: a node without a majority
// stops serving, as is advised for three, and one that is frozen is noticed within
// seconds (see also netTick).
const rabbitmqNodeConf = `cluster_formation.peer_discovery_backend = classic_config
cluster_partition_handling = pause_minority
`

// netTick is after how many seconds, more or less a quarter, a node that says nothing
// is taken for gone by the others, and with it those who were connected to it. The
// default is 60.
const netTick = "8"

func (rabbitmq) Prepare(_ context.Context, in *Instance) error {
	conf := fmt.Sprintf(rabbitmqConf, in.Ports["amqp"], in.Ports["management"], in.Ports["stream"], in.Ports["stream"])
	if in.Nodes != nil {
		conf += rabbitmqNodeConf
		for i, node := range in.Nodes {
			conf += fmt.Sprintf("cluster_formation.classic_config.nodes.%d = %s\n", i+1, rabbitmqNode(node))
		}
	}
	var cookieErr error
	if in.Nodes != nil { // nodes that talk share a word; nobody else has the name of this directory
		cookieErr = os.WriteFile(in.Path(".erlang.cookie"), []byte(filepath.Base(in.Nodes[0].Dir)), 0o400)
	}
	return errors.Join(cookieErr,
		os.Mkdir(in.Path("data"), 0o755),
		os.WriteFile(in.Path("rabbitmq.conf"), []byte(conf), 0o644),
		os.WriteFile(in.Path("plugins"), []byte("[rabbitmq_management,rabbitmq_stream].\n"), 0o644),
	)
}

// rabbitmqScript runs epmd, which tells Erlang nodes of each other, beside the
// server, so that it ends with it: left to itself the server starts one that
// stays. The server's shell is replaced by the server.
const rabbitmqScript = `epmd -address 127.0.0.1 -port "$ERL_EPMD_PORT" &
exec ` + rabbitmqServer

// rabbitmqNode is the name of a node to the others.
func rabbitmqNode(in *Instance) string {
	return "dovetail" + strconv.Itoa(in.Ports["amqp"]) + "@localhost"
}

func (rabbitmq) Command(in *Instance) Command {
	script, names := rabbitmqScript, in
	if in.Helper != nil {
		script, names = "exec "+rabbitmqServer, in.Helper
	}
	erl := "-kernel inet_dist_use_interface {127,0,0,1} +S 2:2 +sbwt none +sbwtdcpu none +sbwtdio none"
	if in.Nodes != nil {
		erl += " -kernel net_ticktime " + netTick
	}
	return Command{
		Args: []string{"sh", "-c", script},
		Env: []string{
			"RABBITMQ_NODENAME=" + rabbitmqNode(in),
			"RABBITMQ_DIST_PORT=" + strconv.Itoa(in.Ports["distribution"]),
			"ERL_EPMD_PORT=" + strconv.Itoa(names.Ports["epmd"]),
			"ERL_EPMD_ADDRESS=" + loopback,
			"RABBITMQ_MNESIA_BASE=" + in.Path("data"),
			"RABBITMQ_LOG_BASE=" + in.Path("data"),
			"RABBITMQ_CONFIG_FILE=" + in.Path("rabbitmq.conf"),
			"RABBITMQ_CONF_ENV_FILE=" + in.Path("none"),
			"RABBITMQ_ENABLED_PLUGINS_FILE=" + in.Path("plugins"),
			"RABBITMQ_PID_FILE=" + in.Path("pid"),
			// Distribution on loopback only, few schedulers that do not spin.
			"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=" + erl,
			"RUNNING_UNDER_SYSTEMD=true", // the script becomes the server
		},
	}
}

func (rabbitmq) URL(in *Instance) string { return "amqp://guest:guest@" + in.Addr("amqp") + "/" }

func (rabbitmq) ClusterURL(nodes []*Instance) string {
	return "amqp://guest:guest@" + strings.Join(addresses(nodes, "amqp"), ",") + "/"
}

func (rabbitmq) Helper() Kind   { return epmd{} }
func (rabbitmq) MostNodes() int { return maxNodes }

// epmd tells the nodes of a cluster of each other.
type epmd struct{ Kind }

func (epmd) Name() string                             { return "rabbitmq-epmd" }
func (epmd) Ports() []string                          { return []string{"epmd"} }
func (epmd) Installed() bool                          { return RabbitMQ.Installed() }
func (epmd) Prepare(context.Context, *Instance) error { return nil }
func (epmd) URL(in *Instance) string                  { return "epmd://" + in.Addr("epmd") }

func (epmd) Command(in *Instance) Command {
	return Command{Args: []string{"epmd", "-address", loopback, "-port", strconv.Itoa(in.Ports["epmd"])}}
}

func (epmd) Probe(ctx context.Context, in *Instance) (version string, err error) {
	conn, err := dial(ctx, in.Addr("epmd"))
	if err != nil {
		return "", err
	}
	return "", conn.Close()
}

// Probe opens and closes a connection in AMQP 0-9-1, which takes a running
// virtual host. A quorum queue may need a moment more for its election.
func (rabbitmq) Probe(ctx context.Context, in *Instance) (version string, err error) {
	conn, err := dial(ctx, in.Addr("amqp"))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "AMQP\x00\x00\x09\x01"); err != nil {
		return "", err
	}
	const (
		start, startOK = 10<<16 | 10, 10<<16 | 11
		tune, tuneOK   = 10<<16 | 30, 10<<16 | 31
		open, openOK   = 10<<16 | 40, 10<<16 | 41
		bye, byeOK     = 10<<16 | 50, 10<<16 | 51
	)
	greeting, err := amqpRead(conn, start)
	if err != nil {
		return "", err
	}
	// A field of the table of server properties: a name and a long string.
	_, value, _ := bytes.Cut(greeting, []byte("\x07versionS"))
	if len(value) >= 4 {
		size := int(binary.BigEndian.Uint32(value))
		version = string(value[4:min(4+size, len(value))])
	}
	for _, step := range []struct {
		send uint32
		args string
		want uint32
	}{
		{startOK, "\x00\x00\x00\x00\x05PLAIN\x00\x00\x00\x0c\x00guest\x00guest\x05en_US", tune},
		{tuneOK, "\x00\x01\x00\x02\x00\x00\x00\x00", 0}, // 1 channel, frames of 128 KiB, no heartbeat
		{open, "\x01/\x00\x00", openOK},
		{bye, "\x00\xc8\x00\x00\x00\x00\x00", byeOK},
	} {
		if err := amqpWrite(conn, step.send, step.args); err != nil {
			return "", err
		}
		if step.want == 0 {
			continue
		}
		if _, err := amqpRead(conn, step.want); err != nil {
			return "", err
		}
	}
	return version, nil
}

const amqpMethodFrame, amqpFrameEnd = 1, 0xCE

func amqpWrite(w io.Writer, method uint32, args string) error {
	frame := []byte{amqpMethodFrame, 0, 0}
	frame = binary.BigEndian.AppendUint32(frame, uint32(4+len(args)))
	frame = binary.BigEndian.AppendUint32(frame, method)
	frame = append(append(frame, args...), amqpFrameEnd)
	_, err := w.Write(frame)
	return err
}

// amqpRead reads one frame, which has to be the method that is wanted, and
// returns its arguments.
func amqpRead(r io.Reader, want uint32) (args []byte, err error) {
	var head [7]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[3:])
	if head[0] != amqpMethodFrame || n < 4 || n > 128<<10 {
		return nil, fmt.Errorf("it sends a frame that begins % x: something else listens there", head)
	}
	frame := make([]byte, n+1)
	if _, err := io.ReadFull(r, frame); err != nil {
		return nil, err
	}
	if got := binary.BigEndian.Uint32(frame); got != want {
		return nil, fmt.Errorf("it answers with method %d.%d and not %d.%d: %q", got>>16, got&0xffff, want>>16, want&0xffff, frame[4:n])
	}
	return frame[4:n], nil
}
