package servers

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// Kafka is Apache Kafka, whose nodes are broker and controller, from Maven at
// a pinned version. It leaves writing to disk to the system, as it comes: a
// power cut loses what one node had not written, a kill nothing.
var Kafka Kind = kafka{}

type kafka struct{}

var (
	//go:embed pinned/kafka-pom.xml
	kafkaPom     string
	kafkaVersion = regexp.MustCompile(`kafka_2.13</artifactId>\s*<version>([^<]+)<`).FindStringSubmatch(kafkaPom)[1]
	kafkaJars    = "kafka-" + kafkaVersion
)

func (kafka) Name() string    { return "kafka" }
func (kafka) Ports() []string { return []string{"kafka", "controller"} }
func (kafka) Installed() bool { return hasJars(kafkaJars) }

func (kafka) Install(ctx context.Context, log io.Writer) error {
	return mavenInstall(ctx, log, kafkaPom, kafkaJars)
}

// kafkaConf: the internal topics have as many copies as there are nodes, and
// few partitions, since each is files and memory. The short session is how long
// a broker that was killed is waited for after its restart.
const kafkaConf = `process.roles=broker,controller
node.id=%[4]d
%[5]s
listeners=PLAINTEXT://%[1]s,CONTROLLER://%[2]s
advertised.listeners=PLAINTEXT://%[1]s,CONTROLLER://%[2]s
controller.listener.names=CONTROLLER
log.dirs=%[3]s
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
default.replication.factor=%[6]d
min.insync.replicas=%[7]d
offsets.topic.replication.factor=%[6]d
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=%[6]d
transaction.state.log.min.isr=%[7]d
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=%[6]d
share.coordinator.state.topic.min.isr=%[7]d
share.coordinator.state.topic.num.partitions=4
group.initial.rebalance.delay.ms=0
log.cleaner.dedupe.buffer.size=4194304
`

// kafkaID is the cluster's: any 16 bytes will do, and nodes are never mixed.
const kafkaID = "ZG92ZXRhaWwtc2VydmVycw"

func (kafka) Prepare(ctx context.Context, in *Instance) error {
	voters, format, copies, inSync := "controller.quorum.bootstrap.servers="+in.Addr("controller"), []string{"--standalone"}, 1, 1
	if n := len(in.Nodes); n > 0 {
		voters, format, copies, inSync = "controller.quorum.voters="+kafkaVoters(in.Nodes), nil, min(n, 3), min(n, 3)/2+1
	}
	conf := fmt.Sprintf(kafkaConf, in.Addr("kafka"), in.Addr("controller"), in.Path("data"), in.Node+1, voters, copies, inSync)
	if err := os.WriteFile(in.Path("server.properties"), []byte(conf), 0o644); err != nil {
		return err
	}
	args := java(kafkaJars, "128m", "-XX:TieredStopAtLevel=1", "kafka.tools.StorageTool", "format",
		"-t", kafkaID, "-c", in.Path("server.properties"))
	args = append(args, format...)
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir, cmd.Env = in.Dir, environment(Command{}, in.Dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("format the storage: %w; Kafka needs Java 17; it said:\n%s", err, out)
	}
	return nil
}

func kafkaVoters(nodes []*Instance) string {
	var all []string
	for _, in := range nodes {
		all = append(all, fmt.Sprintf("%d@%s", in.Node+1, in.Addr("controller")))
	}
	return strings.Join(all, ",")
}

func (kafka) Command(in *Instance) Command {
	heap := "512m"
	if in.Nodes != nil {
		heap = "256m"
	}
	return Command{Args: java(kafkaJars, heap, "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
		"-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info", "-Dorg.slf4j.simpleLogger.showDateTime=true",
		"kafka.Kafka", in.Path("server.properties"))}
}

func (kafka) URL(in *Instance) string { return "kafka://" + in.Addr("kafka") }

func (kafka) ClusterURL(nodes []*Instance) string {
	return "kafka://" + strings.Join(addresses(nodes, "kafka"), ",")
}

func (kafka) Helper() Kind   { return nil }
func (kafka) MostNodes() int { return maxNodes }

// Probe asks which brokers there are. One that still catches up with its log,
// or is not yet admitted by the controller, is not among them. A node of a cluster
// must also have its copies up to date.
func (kafka) Probe(ctx context.Context, in *Instance) (version string, err error) {
	conn, err := dial(ctx, in.Addr("kafka"))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	const metadata, noTopics, allTopics = 3, "\x00\x00\x00\x00", "\xff\xff\xff\xff"
	topics := noTopics
	if in.Nodes != nil {
		topics = allTopics
	}
	answer, err := kafkaAsk(conn, metadata, 1, []byte(topics))
	if err != nil {
		return "", err
	}
	brokers, behind := kafkaState(answer, in.Node+1)
	if !slices.Contains(brokers, in.Node+1) {
		return "", errors.New("it is not admitted yet")
	}
	if behind > 0 {
		return "", fmt.Errorf("its copies of %d partitions are behind", behind)
	}
	return kafkaVersion, nil
}

// kafkaState reads an answer of version 1 about metadata: the numbers of the brokers,
// and of how many partitions a node should have a copy in sync and has not.
func kafkaState(answer []byte, node int) (brokers []int, behind int) {
	r := bytes.NewReader(answer)
	number := func(bytes int) (n int) {
		for range bytes {
			b, _ := r.ReadByte()
			n = n<<8 | int(b)
		}
		return n
	}
	skip := func(n int) { _, _ = r.Seek(int64(n), io.SeekCurrent) }
	text := func() {
		if n := number(2); n < 1<<15 {
			skip(n)
		}
	}
	list := func(each func()) {
		for n := number(4); n > 0 && r.Len() > 0; n-- {
			each()
		}
	}
	list(func() { // a broker: number, host, port, rack
		brokers = append(brokers, number(4))
		text()
		skip(4)
		text()
	})
	skip(4)       // the controller
	list(func() { // a topic: error, name, whether it is internal, partitions
		skip(2)
		text()
		skip(1)
		list(func() { // a partition: error, number, leader, copies, those in sync
			skip(10)
			mine, synced := false, false
			list(func() { mine = number(4) == node || mine })
			list(func() { synced = number(4) == node || synced })
			if mine && !synced {
				behind++
			}
		})
	})
	return brokers, behind
}

// kafkaAsk sends one request in the old, inflexible encoding and returns the
// body of its answer.
func kafkaAsk(conn io.ReadWriter, api, version uint16, body []byte) ([]byte, error) {
	const correlation, client = 1, "probe"
	head := binary.BigEndian.AppendUint16(nil, api)
	head = binary.BigEndian.AppendUint16(head, version)
	head = binary.BigEndian.AppendUint32(head, correlation)
	head = binary.BigEndian.AppendUint16(head, uint16(len(client)))
	head = append(head, client...)
	frame := binary.BigEndian.AppendUint32(nil, uint32(len(head)+len(body)))
	if _, err := conn.Write(append(append(frame, head...), body...)); err != nil {
		return nil, err
	}
	var start [8]byte
	if _, err := io.ReadFull(conn, start[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(start[:])
	if n < 4 || n > 16<<20 || binary.BigEndian.Uint32(start[4:]) != correlation {
		return nil, fmt.Errorf("it answers % x: something else listens there", start)
	}
	answer := make([]byte, n-4)
	_, err := io.ReadFull(conn, answer)
	return answer, err
}
