package kafkabus_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dovetail-go/dovetail/driver"
	"github.com/dovetail-go/dovetail/driver/drivertest"
	"github.com/dovetail-go/dovetail/servers"
)

func TestInterop_with_a_plain_Python_client_both_ways(t *testing.T) {
	interop(t, "python", servers.KafkaPython(t), "testdata/interop/client.py")
}

func TestInterop_with_a_plain_Java_client_both_ways(t *testing.T) {
	// A source file is compiled and run, which takes a JDK; C1 alone starts fastest.
	interop(t, "java", append(servers.KafkaJava(t), "-XX:TieredStopAtLevel=1", "-Dfile.encoding=UTF-8",
		"-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "testdata/interop/Client.java")...)
}

func interop(t *testing.T, name string, command ...string) {
	s := servers.Shared(t, servers.Kafka)
	t.Parallel()
	ours, theirs, came, own := drivertest.Interop(t, harness(t, s), drivertest.Program{
		Name: name, Command: append(command, broker(s)), Partitions: 7,
		Prefix: "ce_", ContentType: "header content-type", Repeats: true,
		Prints: []string{"key\t顾客 100%"},
		Own: func(line string) bool {
			return strings.HasPrefix(line, "partition\t") || strings.HasPrefix(line, "sent to\t")
		},
		Key: "17850", Headers: driver.Headers{{Name: "ce_comexampleextension", Value: "kept"}, {Name: "tenant", Value: "acme"},
			{Name: "tag", Value: "a"}, {Name: "tag", Value: "b"}},
	})

	// Keys of theirs are where ours are.
	c := connect(t, options(s))
	provision(t, c, ours.Channel, ours)
	if err := c.Send(t.Context(), []*driver.Message{{Channel: theirs.Channel.Name, ID: "2", Key: "17850"}}); err != nil {
		t.Fatal(err)
	}
	at := func(sub driver.Subscription) int {
		t.Helper()
		return receive(t, open(t, c, sub), 1)[0].Partition
	}
	if want := []string{fmt.Sprintf("partition\t%d", at(ours)), fmt.Sprintf("sent to\t%d", came.Partition)}; !slices.Equal(own, want) {
		t.Errorf("the program says %q, want %q", own, want)
	}
	if p := at(theirs); p != came.Partition {
		t.Errorf("its message came from partition %d, ours of the same key from %d", came.Partition, p)
	}
}
